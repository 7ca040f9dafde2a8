"""pure but for files: where the API is and who we are, as a Pod or as a kubeconfig says."""

from __future__ import annotations

import base64
import json
import sys

import pytest

from common.errors import LaunchError
from gateway.launchers.kubernetes import access
from gateway.launchers.kubernetes.access import Access, find_access, from_kubeconfig, from_pod, read_yaml

CONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "mine",
    "contexts": [
        {"name": "other", "context": {"cluster": "none", "user": "none"}},
        {"name": "mine", "context": {"cluster": "c", "user": "u", "namespace": "ml"}},
    ],
    "clusters": [{"name": "c", "cluster": {"server": "https://api:6443/"}}],
    "users": [{"name": "u", "user": {"token": "T"}}],
}


def write(tmp_path, cluster=None, user=None, **more):
    """A kubeconfig like the one above, but for this."""
    config = json.loads(json.dumps(CONFIG))
    config["clusters"][0]["cluster"] |= cluster or {}
    if user is not None:
        config["users"][0]["user"] = user
    path = tmp_path / "config"
    path.write_text(json.dumps(config | more))
    return path


def test_a_pod_has_its_service_account(tmp_path):
    for name, text in (("token", "T1\n"), ("ca.crt", "CA"), ("namespace", "ml")):
        (tmp_path / name).write_text(text)
    found = from_pod(tmp_path)
    assert (found.server, found.namespace) == ("https://kubernetes.default.svc", "ml")
    assert from_pod(tmp_path, "elsewhere").namespace == "elsewhere"
    assert found.read_token() == "T1"
    assert found.read_trust() == (b"CA", None, None)
    (tmp_path / "token").write_text("T2")
    (tmp_path / "ca.crt").write_text("CA2")
    assert found.read_token() == "T2"
    assert found.read_trust() == (b"CA2", None, None)


def test_a_kubeconfig_is_read_as_its_current_context_says(tmp_path):
    assert from_kubeconfig(write(tmp_path)) == Access(server="https://api:6443", namespace="ml", token=b"T")
    assert from_kubeconfig(write(tmp_path), "other").namespace == "other"


def test_what_a_kubeconfig_holds_may_be_in_it_or_in_files_beside_it(tmp_path):
    def encoded(text):
        return base64.b64encode(text).decode()

    inside = {"client-certificate-data": encoded(b"CERT"), "client-key-data": encoded(b"KEY")}
    found = from_kubeconfig(write(tmp_path, {"certificate-authority-data": encoded(b"CA")}, inside))
    assert found.read_trust() == (b"CA", b"CERT", b"KEY")
    assert found.read_token() is None
    files = {"client-certificate": "cert.pem", "client-key": str(tmp_path / "key.pem"), "tokenFile": "token"}
    found = from_kubeconfig(write(tmp_path, {"certificate-authority": "ca.pem"}, files))
    for name, text in (("ca.pem", "CA"), ("cert.pem", "CERT"), ("key.pem", "KEY"), ("token", "T")):
        (tmp_path / name).write_text(text)
    assert found.read_trust() == (b"CA", b"CERT", b"KEY")
    assert found.read_token() == "T"


def test_plain_text_is_for_this_machine(tmp_path):
    assert (
        from_kubeconfig(write(tmp_path, {"server": "http://127.0.0.1:8001"})).server
        == "http://127.0.0.1:8001"
    )


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"current-context": "gone"}, "{} has no context called 'gone' among its contexts"),
        ({"current-context": None}, "{} has no context called '' among its contexts"),
        ({"clusters": []}, "{} has no cluster called 'c' among its clusters"),
        ({"users": None}, "{} has no user called 'u' among its users"),
        (
            {"user": {"exec": {"command": "aws"}}},
            "{} asks for exec, and what is understood here is client-certificate, client-certificate-data,"
            " client-key, client-key-data, extensions, token, tokenFile",
        ),
        (
            {"cluster": {"insecure-skip-tls-verify": True}},
            "{} asks for insecure-skip-tls-verify, and what is understood here is certificate-authority,"
            " certificate-authority-data, disable-compression, extensions, server",
        ),
        (
            {"cluster": {"server": "http://api:6443"}},
            "{}: server 'http://api:6443' is no https:// URL (http:// is for this machine alone)",
        ),
        (
            {"cluster": {"server": "api:6443"}},
            "{}: server 'api:6443' is no https:// URL (http:// is for this machine alone)",
        ),
        ({"cluster": {"server": "https://[1"}}, "{}: server 'https://[1' is no URL"),
        ({"cluster": {"certificate-authority-data": "ö"}}, "{}: certificate-authority-data is no base64"),
        ({"user": {"client-key-data": 3}}, "{}: client-key-data is no base64"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_refused_with_a_sentence(tmp_path, config, sentence):
    path = write(tmp_path, **config)
    with pytest.raises(LaunchError) as raised:
        from_kubeconfig(path)
    assert str(raised.value) == sentence.format(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "{} cannot be read: No such file or directory"),
        ("[1, 2]", "{} holds no mapping"),
        ("", "{} holds no mapping"),
        ("a: !!python/object:os.system {}", "{} is no YAML: could not determine a constructor"),
        ("a: [", "{} is no YAML: while parsing a flow node"),
        ("\x00", "{} is no YAML: unacceptable character"),
    ],
)
def test_a_file_that_holds_nothing_we_can_read_is_refused_with_a_sentence(tmp_path, text, sentence):
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LaunchError) as raised:
        read_yaml(path)
    assert str(raised.value).startswith(sentence.replace("{}", str(path), 1))


def test_without_its_reader_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(LaunchError) as raised:
        read_yaml(tmp_path)
    assert str(raised.value) == (
        "--launcher kubernetes needs PyYAML: pip install 'pipeline-inference[kubernetes]'"
    )


def test_a_file_that_went_away_is_said(tmp_path):
    found = Access(server="https://x", namespace="n", token=tmp_path / "token")
    with pytest.raises(LaunchError) as raised:
        found.read_token()
    assert str(raised.value) == f"{tmp_path}/token cannot be read: No such file or directory"


def test_it_is_looked_for_where_it_is_named_then_in_the_pod_then_in_the_home(tmp_path, monkeypatch):
    account, home = tmp_path / "account", tmp_path / "home"
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", account)
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(LaunchError) as raised:
        find_access(None)
    assert str(raised.value) == (
        f"no Kubernetes to speak to: this is no Pod with a service account ({account}/token),"
        f" and there is no {home}/.kube/config: give --kubernetes_config FILE"
    )
    (home / ".kube").mkdir(parents=True)
    write(home / ".kube")
    assert find_access(None).namespace == "ml"
    account.mkdir()
    for name in ("token", "namespace"):
        (account / name).write_text("pod")
    assert find_access(None).namespace == "pod"
    assert find_access(write(tmp_path), "named").namespace == "named"
