"""launch/gke_jobset_*.yaml: fields, placeholders, flags and arithmetic.

SPEC is what these two files may use of JobSet 0.12.0
(kubernetes-sigs/jobset: config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml, and
pkg/webhooks/jobset_webhook.go for what it checks beside), written down by hand.
"""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rtj.errors import CheckpointError, ConfigError, DataError, Diverged, Stopped
from rtj.main import parse

ROOT = Path(__file__).resolve().parents[1]
FILES = {kind: ROOT / f"launch/gke_jobset_{kind}.yaml" for kind in ("tpu", "gpu")}

# A dict holds fields, "!" marks the required ones; a list, items; a set, the allowed
# values; {str: X} any keys.
NAME = {"name!": str}
RULE = {
    "name!": str,
    "action!": {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"},
    "onJobFailureReasons": [{"BackoffLimitExceeded", "PodFailurePolicy"}],
    "onJobFailureMessagePatterns": [str],
}
EXIT_CODES = {"containerName": str, "operator!": {"In", "NotIn"}, "values!": [int]}
POD_RULE = {
    "action!": {"FailJob", "FailIndex", "Ignore", "Count"},
    "onExitCodes": EXIT_CODES,
    "onPodConditions": [{"type!": {"DisruptionTarget"}, "status": {"True", "False"}}],
}
CONTAINER = {
    **NAME,
    "image": str,
    "workingDir": str,
    "command": [str],
    "args": [str],
    "env": [NAME | {"value": str}],
    "resources": {"requests": {str: int}, "limits": {str: int}},
    "volumeMounts": [NAME | {"mountPath!": str}],
}
VOLUME = NAME | {
    "csi": {"driver!": str, "volumeAttributes": {str: str}},
    "emptyDir": {"medium": {"Memory"}},
}
POD = {
    "restartPolicy": {"Never"},  # the only one beside a podFailurePolicy
    "serviceAccountName": str,
    "terminationGracePeriodSeconds": int,
    "nodeSelector": {str: str},
    "containers!": [CONTAINER],
    "volumes": [VOLUME],
}
JOB = {
    "parallelism": int,
    "completions": int,
    "completionMode": {"Indexed"},
    "backoffLimit": int,
    "podFailurePolicy": {"rules!": [POD_RULE]},
    "template!": {"metadata": {"annotations": {str: str}}, "spec": POD},
}
JOBSET = {
    "apiVersion!": {"jobset.x-k8s.io/v1alpha2"},
    "kind!": {"JobSet"},
    "metadata!": NAME | {"annotations": {str: str}},
    "spec!": {
        "network": {"enableDNSHostnames": bool, "subdomain": str},
        "failurePolicy": {"maxRestarts": int, "rules": [RULE]},
        "replicatedJobs!": [NAME | {"replicas": int, "template!": {"spec!": JOB}}],
    },
}


def check(value: Any, schema: Any, where: str = "") -> None:
    """Raise AssertionError naming the first field of `value` that `schema` forbids."""
    if isinstance(schema, set):
        assert value in schema, f"{where}: {value!r} is none of {schema}"
    elif isinstance(schema, list):
        assert isinstance(value, list), f"{where} is no list"
        for index, item in enumerate(value):
            check(item, schema[0], f"{where}[{index}]")
    elif isinstance(schema, type):
        assert type(value) is schema, f"{where}: {value!r} is no {schema.__name__}"
    else:
        assert isinstance(value, dict), f"{where} is no mapping"
        fields = {name.rstrip("!"): s for name, s in schema.items() if name is not str}
        for name, item in value.items():
            assert str in schema or name in fields, f"{where}.{name} is unknown"
            check(item, fields.get(name, schema.get(str)), f"{where}.{name}")
        lacking = {n[:-1] for n in schema if n is not str and n[-1] == "!"} - set(value)
        assert not lacking, f"{where} lacks {lacking}"


def example(kind: str) -> dict[str, str]:
    """The values that the head of the file sets as examples."""
    return dict(re.findall(r"^# export (\w+)=(\S+)$", FILES[kind].read_text(), re.M))


@pytest.fixture(params=FILES)
def kind(request) -> str:
    return request.param


@pytest.fixture
def jobset(kind) -> dict[str, Any]:
    values = example(kind)
    text = re.sub(r"\$\{(\w+)\}", lambda m: values[m[1]], FILES[kind].read_text())
    return yaml.safe_load(text)


@pytest.fixture
def job(jobset) -> dict[str, Any]:
    (replicated,) = jobset["spec"]["replicatedJobs"]
    assert replicated["replicas"] == 1
    return replicated["template"]["spec"]


@pytest.fixture
def pod(job) -> dict[str, Any]:
    return job["template"]["spec"]


def test_the_file_is_a_jobset(jobset):
    check(jobset, JOBSET)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("spec", "replicatedJobs"), [{"name": "a"}], "lacks {'template'}"),
        (("spec", "failurePolicy", "maxRestarts"), "10", "'10' is no int"),
        (("spec", "failurePolicy", "restarts"), 1, "restarts is unknown"),
        (("kind",), "Job", "'Job' is none of"),
    ],
)
def test_the_checker_finds_what_the_crd_forbids(jobset, path, value, message):
    *parents, last = path
    inner = jobset
    for name in parents:
        inner = inner[name]
    inner[last] = value
    with pytest.raises(AssertionError, match=re.escape(message)):
        check(jobset, JOBSET)


def test_every_placeholder_has_an_example_at_the_head_and_is_used(kind):
    head, _, body = FILES[kind].read_text().partition("\napiVersion:")
    assert set(re.findall(r"\$\{(\w+)\}", body)) == set(example(kind))
    assert not re.findall(r"\$\w", body)  # envsubst would take these too
    assert f"envsubst <launch/{FILES[kind].name} | kubectl apply -f -" in head


def test_names_are_unique_and_fit_their_rules(jobset):
    names = [rule["name"] for rule in jobset["spec"]["failurePolicy"]["rules"]]
    assert len(names) == len(set(names))
    assert all(re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", n) for n in names)
    pod = f"{jobset['metadata']['name']}-worker-0-9999-abcde"
    assert re.fullmatch("[a-z]([-a-z0-9]{,61}[a-z0-9])?", pod)


def action(jobset: dict, job: dict, code: int) -> str:
    """What happens when a container ends with `code`.

    As in kubernetes/kubernetes pkg/controller/job/pod_failure_policy.go and jobset's
    pkg/controllers/failure_policy.go: the first rule that fits, else a counted restart.
    """
    reason, message = "BackoffLimitExceeded", "Job has reached the backoff limit"
    for index, rule in enumerate(job["podFailurePolicy"]["rules"]):
        if code in rule.get("onExitCodes", {"values": []})["values"]:
            reason = "PodFailurePolicy"
            message = (
                f"Container rtj for pod default/rtj-worker-0-1-x2k4z failed with exit "
                f"code {code} matching FailJob rule at index {index}"
            )
            break
    for rule in jobset["spec"]["failurePolicy"]["rules"]:
        patterns = rule.get("onJobFailureMessagePatterns", [""])
        if reason in rule["onJobFailureReasons"] and any(
            re.search(pattern, message) for pattern in patterns
        ):
            return rule["action"]
    return "RestartJobSet"


@pytest.mark.parametrize("error", [ConfigError, Diverged, DataError, CheckpointError])
def test_an_error_that_would_come_again_fails_the_jobset(jobset, job, error):
    assert action(jobset, job, error.exit_code) == "FailJobSet"


def test_a_saved_stop_restarts_and_does_not_count(jobset, job):
    code = Stopped.exit_code
    assert action(jobset, job, code) == "RestartJobSetAndIgnoreMaxRestarts"


@pytest.mark.parametrize("code", [1, 134, 137])
def test_a_crash_restarts_and_counts(jobset, job, code):
    assert action(jobset, job, code) == "RestartJobSet"
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0


def test_a_disruption_restarts_and_does_not_count(jobset, job):
    conditions = [r.get("onPodConditions") for r in job["podFailurePolicy"]["rules"]]
    assert [{"type": "DisruptionTarget", "status": "True"}] in conditions
    message = "Pod default/x has condition DisruptionTarget matching FailJob rule at 1"
    first = jobset["spec"]["failurePolicy"]["rules"][0]
    assert first["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert any(re.search(p, message) for p in first["onJobFailureMessagePatterns"])


def test_one_failed_pod_fails_the_job_and_there_is_time_to_save(job, pod):
    assert job["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 120
    (container,) = pod["containers"]
    codes = job["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert codes["containerName"] == container["name"]
    assert codes["values"] == sorted(set(codes["values"]) - {0})  # the API's order


def test_the_command_is_one_of_rtj_main(kind, pod, monkeypatch):
    monkeypatch.chdir(ROOT)  # the image's /rtj
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", "rtj.main"]
    index = {"JOB_COMPLETION_INDEX": "1"}
    args = [re.sub(r"\$\((\w+)\)", lambda m: index[m[1]], a) for a in container["args"]]
    values, config = parse(["rtj.main", *args])
    row, *options = example(kind)["RTJ_ROW"].split(",")
    assert (config.name, options) == (f"ablation-{row}", ["data=imagenet"])
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for folder in (values.workdir, config.data.data_dir):
        assert folder.startswith(f"{mounts[0]}/")


def test_every_mount_has_its_volume(pod):
    volumes = [volume["name"] for volume in pod["volumes"]]
    mounts = [mount["name"] for mount in pod["containers"][0]["volumeMounts"]]
    assert sorted(mounts) == sorted(volumes)


def chips(pod: dict, resource: str) -> int:
    resources = pod["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]
    return resources["limits"][resource]


@pytest.mark.parametrize("kind", ["tpu"])
def test_the_nodes_chips_are_the_topologys(job, pod):
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    product = math.prod(int(side) for side in topology.split("x"))
    assert job["parallelism"] == job["completions"]
    assert job["parallelism"] * chips(pod, "google.com/tpu") == product


@pytest.mark.parametrize("kind", ["gpu"])
def test_the_processes_find_each_other_through_the_headless_service(jobset, job, pod):
    args = pod["containers"][0]["args"]
    name = jobset["metadata"]["name"]
    # <jobSet>-<replicatedJob>-<job>-<pod>.<subdomain>, the subdomain the JobSet's name
    assert f"--coordinator={name}-worker-0-0.{name}:8476" in args
    assert jobset["spec"]["network"] == {"enableDNSHostnames": True}
    assert f"--processes={job['completions']}" in args
    assert "--process=$(JOB_COMPLETION_INDEX)" in args
    assert "cloud.google.com/gke-accelerator" in pod["nodeSelector"]
    assert chips(pod, "nvidia.com/gpu") > 0
