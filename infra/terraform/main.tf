# What a run on Dataflow needs in a project: a bucket, a registry for the images, and two service accounts with no more
# rights than they use: workers read and write the bucket and pull images; the launcher also starts jobs.

locals {
  services = ["artifactregistry", "compute", "dataflow", "run", "storage"]

  # Rights on the whole project, which cannot be given on less.
  project_roles = {
    worker   = ["roles/dataflow.worker"]
    launcher = ["roles/dataflow.developer"]
  }
  project_grants = merge([
    for account, roles in local.project_roles : {
      for role in roles : "${account}-${role}" => { account = account, role = role }
    }
  ]...)

  # objectUser reads, writes and removes objects. Beam's client also asks for the bucket itself (storage.buckets.get),
  # which legacyBucketReader allows, and no change of it.
  bucket_roles = ["roles/storage.objectUser", "roles/storage.legacyBucketReader"]
  bucket_grants = {
    for pair in setproduct(keys(local.project_roles), local.bucket_roles) :
    "${pair[0]}-${pair[1]}" => { account = pair[0], role = pair[1] }
  }
}

resource "google_project_service" "used" {
  for_each = toset(local.services)

  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}

resource "google_storage_bucket" "data" {
  name                        = var.bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false # the data set is in it

  # Else each temporary object is kept, and billed, for seven days after it is removed.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  lifecycle_rule {
    condition {
      age            = var.temporary_days
      matches_prefix = ["temp/", "staging/"]
    }
    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      age = 1
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  depends_on = [google_project_service.used]
}

resource "google_artifact_registry_repository" "images" {
  location      = var.region
  repository_id = "onceseen"
  format        = "DOCKER"
  description   = "Images of Onceseen's workers and launcher"

  depends_on = [google_project_service.used]
}

resource "google_service_account" "account" {
  for_each = local.project_roles

  account_id   = "onceseen-${each.key}"
  display_name = "Onceseen ${each.key}"
}

resource "google_project_iam_member" "account" {
  for_each = local.project_grants

  project = var.project
  role    = each.value.role
  member  = google_service_account.account[each.value.account].member
}

resource "google_storage_bucket_iam_member" "account" {
  for_each = local.bucket_grants

  bucket = google_storage_bucket.data.name
  role   = each.value.role
  member = google_service_account.account[each.value.account].member
}

resource "google_artifact_registry_repository_iam_member" "account" {
  for_each = local.project_roles

  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.account[each.key].member
}

# Whoever starts a job must be allowed to run machines as the workers' account.
resource "google_service_account_iam_member" "launcher_uses_worker" {
  service_account_id = google_service_account.account["worker"].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.account["launcher"].member
}

resource "google_service_account_iam_member" "people_use_launcher" {
  for_each = toset(var.launchers)

  service_account_id = google_service_account.account["launcher"].name
  role               = "roles/iam.serviceAccountUser"
  member             = each.key
}
