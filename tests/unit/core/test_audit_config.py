"""The section audit: its defaults, and what it refuses."""

from __future__ import annotations

import pytest

from onceseen.core.config import AuditConfig, PipelineConfig
from onceseen.core.config_io import config_from_mapping, config_to_mapping, load_config


def test_the_defaults_leave_thresholds_to_be_calibrated() -> None:
    config = PipelineConfig().audit
    assert (config.match_distance, config.edge_distance, config.edge_cosine, config.side) == (0, 0, 0, 0)
    assert config.min_clique == 10


def test_settings_are_taken_and_survive_a_run_json() -> None:
    config = load_config(None, ["audit.min_clique=5", "audit.edges=either", "audit.max_rate=0.05"])
    assert (config.audit.min_clique, config.audit.edges, config.audit.max_rate) == (5, "either", 0.05)
    assert config_from_mapping(config_to_mapping(config)) == config


def test_a_run_json_of_an_older_version_has_the_defaults() -> None:
    mapping = config_to_mapping(PipelineConfig())
    del mapping["audit"]
    assert config_from_mapping(mapping).audit == AuditConfig()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_clique", 1),
        ("side", 4),
        ("side", -1),
        ("max_side", 0),
        ("match_distance", 1.5),
        ("match_distance", -0.1),
        ("edge_distance", 2.0),
        ("match_ratio", 0.0),
        ("match_ratio", 1.1),
        ("edge_cosine", 1.5),
        ("edges", "pixel"),
        ("max_rate", 0.0),
        ("max_rate", 1.0),
        ("clique_steps", 0),
        ("template_tiles", 17),
        ("template_contrast", -0.1),
        ("candidates", 1),
        ("train_samples", 0),
    ],
)
def test_values_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^audit\.{name} is {value!r}; expected ") as error:
        AuditConfig(**{name: value})  # type: ignore[arg-type]
    assert "expected " in str(error.value)


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValueError, match=r"audit\.min_cliques; did you mean audit\.min_clique\?"):
        load_config(None, ["audit.min_cliques=5"])
