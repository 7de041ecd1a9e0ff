#!/usr/bin/env bash
# Builds and pushes the images, and lays the Flex Template into the bucket. Needs docker and gcloud, both logged in
# (gcloud auth login; gcloud auth configure-docker REGION-docker.pkg.dev), and what infra/terraform makes.
#   infra/dataflow/build.sh REGION-docker.pkg.dev/PROJECT/onceseen gs://BUCKET 0.1.0
set -euo pipefail
if [ "$#" -ne 3 ]; then
  echo "usage: $0 IMAGES gs://BUCKET VERSION" >&2
  echo "for example $0 europe-west4-docker.pkg.dev/my-project/onceseen gs://my-bucket 0.1.0" >&2
  exit 2
fi
images=$1 bucket=$2 version=$3
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

for target in worker-cpu worker-gpu launcher; do
  # The launcher describes the model before any worker starts, and so has what the GPU image has.
  docker build --platform linux/amd64 -f infra/docker/Dockerfile --target "${target}" \
    -t "${images}/${target}:${version}" --build-arg LAUNCHER_BASE=worker-gpu --build-arg "IMAGES=${images}" .
  docker push "${images}/${target}:${version}"
done

gcloud dataflow flex-template build "${bucket}/templates/onceseen-extract-${version}.json" \
  --image "${images}/launcher:${version}" --sdk-language PYTHON --metadata-file infra/dataflow/metadata.json
