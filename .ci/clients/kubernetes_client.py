"""The Python client of Kubernetes against a lab: typed and dynamic; list, watch, patch, exec and port-forward."""

import threading
import time

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

NAMESPACE = "python"
PATIENCE = 60


def refused(code, call):
    """The Status of a call that the API must refuse with this code."""
    try:
        call()
    except ApiException as error:
        assert error.status == code, (error.status, error.body)
        return error
    raise AssertionError(f"it was not refused with {code}")


def objects(core):
    """Create, list, patch, replace and delete, while a watch looks on."""
    seen = []
    start = core.list_namespaced_config_map(NAMESPACE)

    def look():
        events = watch.Watch().stream(
            core.list_namespaced_config_map,
            NAMESPACE,
            resource_version=start.metadata.resource_version,
            field_selector="metadata.name=a",
            timeout_seconds=PATIENCE,
        )
        for event in events:
            seen.append(event["type"])
            if event["type"] == "DELETED":
                return

    watcher = threading.Thread(target=look)
    watcher.start()
    made = core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata={"name": "a"}, data={"k": "v"}))
    assert made.metadata.uid and made.data == {"k": "v"}
    refused(409, lambda: core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "a"}}))
    # A dict is sent as a strategic patch, a list as a JSON patch.
    core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"s": "1"}})
    patched = core.patch_namespaced_config_map("a", NAMESPACE, [{"op": "remove", "path": "/data/k"}])
    assert patched.data == {"s": "1"}, patched.data
    error = refused(409, lambda: core.replace_namespaced_config_map("a", NAMESPACE, made))
    assert "the object has been modified" in error.body, error.body
    assert [item.metadata.name for item in core.list_config_map_for_all_namespaces(limit=1).items]
    core.delete_namespaced_config_map("a", NAMESPACE)
    refused(404, lambda: core.read_namespaced_config_map("a", NAMESPACE))
    watcher.join(PATIENCE)
    assert seen == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"], seen
    for name in ["x", "y"]:
        core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": name, "labels": {"of": "many"}}})
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="of=many")
    assert not core.list_namespaced_config_map(NAMESPACE, label_selector="of=many").items


def pods(core):
    """A pod that answers HTTP: waited for, entered, forwarded, and reached through a Service's proxy."""
    container = {"name": "echo", "image": "minisvc/echo", "env": [{"name": "PORT", "value": "8080"}]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    core.create_namespaced_pod(NAMESPACE, {"metadata": {"name": "app", "labels": {"app": "app"}}, "spec": spec})
    for event in watch.Watch().stream(core.list_namespaced_pod, NAMESPACE, timeout_seconds=PATIENCE):
        conditions = event["object"].status.conditions or []
        if any(condition.type == "Ready" and condition.status == "True" for condition in conditions):
            break
    else:
        raise AssertionError("the pod was not ready in time")

    said = stream(
        core.connect_get_namespaced_pod_exec,
        "app",
        NAMESPACE,
        command=["sh", "-c", "echo out; echo err >&2"],
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
    )
    assert sorted(said.split()) == ["err", "out"], said
    session = stream(
        core.connect_get_namespaced_pod_exec,
        "app",
        NAMESPACE,
        command=["sh", "-c", "read line; echo got $line; exit 7"],
        stdout=True,
        stderr=True,
        stdin=True,
        tty=False,
        _preload_content=False,
    )
    session.write_stdin("this\n")
    session.run_forever(timeout=PATIENCE)
    assert (session.read_stdout(), session.returncode) == ("got this\n", 7)

    forward = portforward(core.connect_get_namespaced_pod_portforward, "app", NAMESPACE, ports="8080")
    connection = forward.socket(8080)
    connection.setblocking(True)
    connection.settimeout(PATIENCE)
    connection.sendall(b"GET /forwarded HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
    answer = b""
    # The end of a forwarded connection is the end of the whole: it need not be waited for.
    while b"/forwarded" not in answer:
        piece = connection.recv(4096)
        assert piece, answer
        answer += piece
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert forward.error(8080) is None

    ports = [{"port": 80, "targetPort": 8080}]
    core.create_namespaced_service(NAMESPACE, {"metadata": {"name": "app"}, "spec": {"selector": {"app": "app"}, "ports": ports}})
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            page = core.connect_get_namespaced_service_proxy_with_path("app:80", NAMESPACE, "proxied")
            break
        except ApiException as error:
            # The endpoint may not be written yet.
            assert error.status == 503 and time.monotonic() < deadline, error
            time.sleep(0.05)
    assert "/proxied" in str(page), page
    assert core.read_namespaced_pod_log("app", NAMESPACE) is not None
    core.delete_namespaced_pod("app", NAMESPACE)


def dynamically(api):
    """Kinds by their names alone, server-side apply among them."""
    cluster = dynamic.DynamicClient(api)
    deployments = cluster.resources.get(api_version="apps/v1", kind="Deployment")
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "minisvc/pause"}]}}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    }
    made = deployments.create(body=body, namespace=NAMESPACE)
    assert made.spec.replicas == 0
    merged = deployments.patch(
        body={"metadata": {"name": "web", "labels": {"a": "b"}}},
        namespace=NAMESPACE,
        content_type="application/merge-patch+json",
    )
    assert merged.metadata.labels.a == "b"
    config_maps = cluster.resources.get(api_version="v1", kind="ConfigMap")
    for manager, value, force in [("one", "1", False), ("two", "2", True)]:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": value}}
        apply = lambda force: config_maps.server_side_apply(
            body=body, namespace=NAMESPACE, field_manager=manager, force_conflicts=force
        )
        if force:
            try:
                apply(False)
                raise AssertionError("there was no conflict")
            except dynamic.exceptions.ConflictError:
                pass
        assert apply(force).data.k == value
    assert [item.metadata.name for item in deployments.get(namespace=NAMESPACE).items] == ["web"]
    for event in deployments.watch(namespace=NAMESPACE, timeout=PATIENCE):
        assert event["object"].metadata.name == "web"
        break
    deployments.delete(name="web", namespace=NAMESPACE)
    services = cluster.resources.search(kind="Service")
    assert any(service.group_version == "v1" for service in services)


config.load_kube_config()
api = client.ApiClient()
assert client.VersionApi(api).get_code().minor == "36"
client.CoreV1Api(api).create_namespace({"metadata": {"name": NAMESPACE}})
objects(client.CoreV1Api(api))
dynamically(api)
# Last: exec and port-forward change how a client connects.
pods(client.CoreV1Api(client.ApiClient()))
print("the Python client finds everything in its place")
