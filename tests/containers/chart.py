"""The pods that the Helm chart renders, run as plain containers with their command, environment, user and mounts.

This is no Kubernetes: names are network aliases, volumes are Docker's, and nothing probes but this program.
"""

import base64
import importlib.machinery
import importlib.util
import os
import pathlib
import subprocess
import tempfile
import urllib.request

HELM_TESTS = pathlib.Path(__file__).resolve().parents[1] / "helm/run"
NAMESPACE, RELEASE = "log", "chart"


def helm_tests():
    loader = importlib.machinery.SourceFileLoader("helm_tests", str(HELM_TESTS))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("helm_tests", loader))
    loader.exec_module(module)
    return module


def docker(*words):
    ran = subprocess.run(["docker", *words], text=True, capture_output=True)
    if ran.returncode != 0:
        raise AssertionError(f"docker {' '.join(words)}: {ran.stderr}")
    return ran.stdout.strip()


class Pods:
    """The release's pods as containers of one network; a context manager that removes them all."""

    def __init__(self, manifests, image):
        self.manifests, self.image = {(m["kind"], m["metadata"]["name"]): m for m in manifests}, image
        self.network = f"chart-{os.getpid()}"
        self.names = []
        self.scratch = tempfile.TemporaryDirectory()

    def __enter__(self):
        docker("network", "create", self.network)
        for (kind, name), manifest in self.manifests.items():
            if kind == "ConfigMap":
                # Readable for the pods' user, as Kubernetes' mounts are.
                directory = pathlib.Path(self.scratch.name, name)
                directory.mkdir()
                for file, text in manifest["data"].items():
                    (directory / file).write_text(text)
                for path in (pathlib.Path(self.scratch.name), directory):
                    path.chmod(0o755)
        return self

    def __exit__(self, kind, error, trace):
        for name in self.names:
            if error is not None:
                print(f"---- {name}")
                subprocess.run(["docker", "logs", "--tail", "8", name])
            docker("rm", "-f", "-v", name)
        docker("network", "rm", self.network)
        self.scratch.cleanup()

    def start_all(self):
        for (kind, name), manifest in self.manifests.items():
            for number in range(manifest["spec"]["replicas"] if kind in ("StatefulSet", "Deployment") else 0):
                pod = f"{name}-{number}"
                domain = f"{NAMESPACE}.svc.cluster.local"
                aliases = [f"{pod}.{manifest['spec']['serviceName']}.{domain}"] if kind == "StatefulSet" else []
                pod_labels = manifest["spec"]["template"]["metadata"]["labels"].items()
                aliases += [f"{service}.{domain}" for (other, service), found in self.manifests.items()
                            if other == "Service" and found["spec"]["selector"].items() <= pod_labels]
                self.run(pod, manifest["spec"]["template"]["spec"], aliases, detached=True)

    def run(self, pod, spec, aliases=(), detached=False):
        container = spec["containers"][0]
        words = ["--name", pod, "--network", self.network, "--user", str(spec["securityContext"]["runAsUser"]),
                 "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        for alias in aliases:
            words += ["--network-alias", alias]
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            source = volumes.get(mount["name"], {})
            if "configMap" in source:
                words += ["-v", f"{self.scratch.name}/{source['configMap']['name']}:{mount['mountPath']}:ro"]
            elif "emptyDir" in source:
                words += ["--tmpfs", mount["mountPath"]]
            # What a claim holds is the image's own volume here.
        environment = self.environment(pod, container)
        for key, value in environment.items():
            words += ["-e", f"{key}={value}"]
        command = container["command"] + container.get("args", [])
        words += ["--entrypoint", command[0], self.image, *command[1:]]
        self.names.append(pod)
        return docker("run", *(["-d"] if detached else []), *words)

    def environment(self, pod, container):
        environment = {}
        for entry in container.get("env", []):
            source = entry.get("valueFrom", {})
            if "fieldRef" in source:
                assert source["fieldRef"]["fieldPath"] == "metadata.name", source
                value = pod
            elif "secretKeyRef" in source:
                secret = self.manifests["Secret", source["secretKeyRef"]["name"]]
                value = base64.b64decode(secret["data"][source["secretKeyRef"]["key"]]).decode()
            else:
                value = entry["value"]
                for key, known in environment.items():
                    value = value.replace(f"$({key})", known)
            environment[entry["name"]] = value
        return environment

    def probe(self, path):
        """What the kubelet would ask of every pod."""
        for name in self.names:
            address = docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
            assert address, f"{name} has ended"
            try:
                urllib.request.urlopen(f"http://{address}:9644{path}", timeout=2).read()
            except OSError as error:
                raise AssertionError(f"{name} {path}: {error}") from error
        return True


def run(image, until, note):
    """The defaults, started; every probe answers; the chart's own test passes."""
    import yaml

    tests = helm_tests()
    helm = tests.fetch_helm()
    text = subprocess.run([helm, "template", RELEASE, str(tests.CHART), "--namespace", NAMESPACE], check=True,
                          text=True, capture_output=True).stdout
    with Pods([m for m in yaml.safe_load_all(text) if m], image) as pods:
        pods.start_all()
        for path in ("/startupz", "/livez", "/readyz"):
            until(path, 60, lambda: pods.probe(path))
        note(f"the chart's {len(pods.names)} pods run as containers and answer their probes")
        (name, test), = [(name, m) for (kind, name), m in pods.manifests.items() if kind == "Pod"]
        pods.run(name, test["spec"])
        note("the chart's own test (a record's round trip) passes")
