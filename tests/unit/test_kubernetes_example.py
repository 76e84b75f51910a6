"""The example for Kubernetes: valid as far as can be told without a cluster, and of one piece."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.missing import missing

from jupyter_teleportal.core.settings import Timing
from jupyter_teleportal.jupyterhub import GroupSharing

FOLDER = Path(__file__).parents[2] / "examples" / "kubernetes"
MANIFESTS = list(yaml.safe_load_all((FOLDER / "teleportal.yaml").read_text()))
SECRET = yaml.safe_load((FOLDER / "secret.example.yaml").read_text())
VALUES = yaml.safe_load((FOLDER / "values.yaml").read_text())
PAGE = (FOLDER.parents[1] / "docs" / "kubernetes.md").read_text()
BY_KIND = {manifest["kind"]: manifest for manifest in MANIFESTS}
VALKEY = BY_KIND["StatefulSet"]["spec"]["template"]
(CONTAINER,) = VALKEY["spec"]["containers"]


@pytest.mark.parametrize("manifest", [*MANIFESTS, SECRET], ids=lambda manifest: manifest["kind"])
def test_a_manifest_fits_the_schemas_of_kubernetes(manifest: dict[str, Any]) -> None:
    if importlib.util.find_spec("kubernetes_validate") is None:
        missing("needs the package kubernetes-validate")
    import kubernetes_validate

    kubernetes_validate.validate(manifest, "1.32", strict=True)


def test_who_needs_the_password_takes_it_from_the_secret() -> None:
    reference = {"name": SECRET["metadata"]["name"], "key": next(iter(SECRET["stringData"]))}
    hub = VALUES["hub"]["extraEnv"]["TELEPORTAL_VALKEY_PASSWORD"]
    assert hub["valueFrom"]["secretKeyRef"] == reference
    for variable in CONTAINER["env"]:
        assert variable["valueFrom"]["secretKeyRef"] == reference
    assert "$TELEPORTAL_VALKEY_PASSWORD" in CONTAINER["args"][0]
    assert f"create secret generic {reference['name']}" in PAGE
    assert f"--from-literal={reference['key']}=" in PAGE


def test_the_network_lets_through_what_has_to_meet_and_nobody_else() -> None:
    labels = VALKEY["metadata"]["labels"]
    assert BY_KIND["Service"]["spec"]["selector"] == labels
    policy = BY_KIND["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    (ingress,) = policy["ingress"]
    sources = [source["podSelector"]["matchLabels"]["component"] for source in ingress["from"]]
    assert sources == ["hub", "singleuser-server"]
    (port,) = CONTAINER["ports"]
    assert ingress["ports"] == [{"port": port["containerPort"], "protocol": "TCP"}]
    assert policy["egress"] == []
    (egress,) = VALUES["singleuser"]["networkPolicy"]["egress"]
    assert egress == {"to": [{"podSelector": {"matchLabels": labels}}], "ports": ingress["ports"]}


def hub_config() -> tuple[Any, Any]:
    """What the hub's extra configuration sets: (its config, without the spawner's import)."""
    from traitlets.config import Config

    config = Config()
    code = VALUES["hub"]["extraConfig"]["teleportal"].replace("kubespawner.KubeSpawner", "simple")
    exec(compile(code, "values.yaml", "exec"), {"c": config, "__name__": "config"})
    return config, config.Spawner.pre_spawn_hook


def test_the_hub_configures_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEPORTAL_VALKEY_PASSWORD", "x")
    config, _ = hub_config()
    assert issubclass(config.JupyterHub.spawner_class, GroupSharing)
    assert set(config.GroupSharing) <= set(GroupSharing.class_trait_names(config=True))
    service, port = BY_KIND["Service"]["metadata"]["name"], CONTAINER["ports"][0]["containerPort"]
    assert config.GroupSharing.redis_url == f"redis://{service}:{port}/0"
    assert f"user {config.GroupSharing.redis_options['username']} on" in CONTAINER["args"][0]
    groups = VALUES["hub"]["config"]["JupyterHub"]["load_groups"]
    assert set(config.GroupSharing.groups) == set(groups)
    for share in config.GroupSharing.groups.values():
        assert share in BY_KIND["Job"]["spec"]["template"]["spec"]["containers"][0]["args"][0]
    assert config.KubeSpawner.delete_grace_period > Timing().stop_timeout_s
    grace = VALUES["singleuser"]["extraPodConfig"]["terminationGracePeriodSeconds"]
    assert grace > Timing().stop_timeout_s


def test_a_pod_gets_the_folders_of_its_users_shares_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEPORTAL_VALKEY_PASSWORD", "x")
    _, mount = hub_config()

    class Spawner:
        volume_mounts: dict[str, Any] = {"home": {"name": "home"}}  # noqa: RUF012

        def shares(self) -> dict[str, str]:
            return self.now

    spawner = Spawner()
    spawner.now = {"team1": "team1", "team2": "team2"}
    mount(spawner)
    spawner.now = {"team1": "team1"}
    mount(spawner)
    volume = BY_KIND["PersistentVolumeClaim"]["metadata"]["name"]
    assert spawner.volume_mounts == {
        "home": {"name": "home"},
        "teleportal-team1": {"name": volume, "mountPath": "/home/jovyan/team1", "subPath": "team1"},
    }
    volumes = VALUES["singleuser"]["storage"]["extraVolumes"]
    assert volumes[volume]["persistentVolumeClaim"]["claimName"] == volume


def test_what_valkey_has_to_be_set_to() -> None:
    lines = BY_KIND["ConfigMap"]["data"]["valkey.conf"].splitlines()
    for setting in ("appendonly yes", "maxmemory-policy noeviction"):
        assert setting in lines
    assert "user default off" in CONTAINER["args"][0]
