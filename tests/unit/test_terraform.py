"""infra/terraform: formatted, parsed, and no more rights than a run needs. Nothing is applied, no provider is had."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

hcl2 = pytest.importorskip("hcl2", reason="needs python-hcl2")

FOLDER = Path(__file__).resolve().parents[2] / "infra" / "terraform"
BROAD = re.compile(r"roles/(owner|editor|viewer|.*\.admin|.*Admin)$")


def _bare(value: Any) -> Any:
    """Parsed values without the quotation marks that python-hcl2 leaves."""
    if isinstance(value, dict):
        return {_bare(k): _bare(v) for k, v in value.items() if not str(k).startswith("__")}
    if isinstance(value, list):
        return [_bare(v) for v in value]
    return value.strip('"') if isinstance(value, str) else value


@pytest.fixture(scope="module")
def parsed() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(FOLDER.glob("*.tf")):
        with path.open(encoding="utf-8") as stream:
            for kind, blocks in _bare(hcl2.load(stream)).items():
                found.setdefault(kind, []).extend(blocks)
    return found


def _resources(parsed: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {
        f"{kind}.{name}": body
        for block in parsed["resource"]
        for kind, named in block.items()
        for name, body in named.items()
    }


def test_the_files_are_as_terraform_formats_them() -> None:
    terraform = shutil.which("terraform") or shutil.which("tofu")
    if terraform is None:
        pytest.skip("neither terraform nor tofu is installed")
    environment = {k: v for k, v in os.environ.items() if k != "TF_CLI_CONFIG_FILE"}
    command = [terraform, "fmt", "-check", "-diff", "-no-color", str(FOLDER)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_variable_is_explained_and_used(parsed: dict[str, list[dict[str, Any]]]) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.tf"))
    variables = {name: body for block in parsed["variable"] for name, body in block.items()}
    assert variables
    for name, body in variables.items():
        assert body["description"], name
        assert f"var.{name}" in text, name
    assert set(re.findall(r"var\.(\w+)", text)) == set(variables)
    with (FOLDER / "example.tfvars").open(encoding="utf-8") as stream:
        example = _bare(hcl2.load(stream))
    assert set(example) <= set(variables)
    assert {name for name, body in variables.items() if "default" not in body} <= set(example)


def test_what_is_referred_to_is_there(parsed: dict[str, list[dict[str, Any]]]) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.tf"))
    resources = set(_resources(parsed))
    assert set(re.findall(r"\b(google_\w+\.\w+)", text)) <= resources
    locals_ = {name for block in parsed["locals"] for name in block}
    assert set(re.findall(r"local\.(\w+)", text)) <= locals_


def test_rights_are_few(parsed: dict[str, list[dict[str, Any]]]) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.tf"))
    roles = set(re.findall(r"roles/[\w.]+", re.sub(r"#.*", "", text)))
    assert roles == {
        "roles/dataflow.worker",
        "roles/dataflow.developer",
        "roles/storage.objectUser",
        "roles/storage.legacyBucketReader",
        "roles/artifactregistry.reader",
        "roles/iam.serviceAccountUser",
    }
    assert not [role for role in roles if BROAD.search(role)]
    on_project = [kind for kind in _resources(parsed) if kind.startswith("google_project_iam")]
    assert on_project == ["google_project_iam_member.account"]
    (locals_,) = parsed["locals"]
    assert {role for given in locals_["project_roles"].values() for role in given} == {
        "roles/dataflow.worker",
        "roles/dataflow.developer",
    }


def test_the_bucket_is_private_and_its_temporaries_end(parsed: dict[str, list[dict[str, Any]]]) -> None:
    bucket = _resources(parsed)["google_storage_bucket.data"]
    assert bucket["uniform_bucket_level_access"] is True
    assert bucket["public_access_prevention"] == "enforced"
    assert bucket["force_destroy"] is False
    deleted = [r for r in bucket["lifecycle_rule"] if r["action"][0]["type"] == "Delete"]
    assert [r["condition"][0]["matches_prefix"] for r in deleted] == [["temp/", "staging/"]], "never the data"
