"""The settings of the brief, as an operator sets them: by name, with aliases, whole or refused by name."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rpc.settings import describe, load
from services.storage.settings import StorageSettings

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "very-secret-value"}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def load_with(**variables: str) -> StorageSettings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load(StorageSettings)

    return load_with


class TestChoice:
    def test_without_settings_images_are_local(self, loaded, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
        monkeypatch.delenv("STORAGE_LOCAL_ROOT")
        settings = loaded()
        assert not settings.s3_chosen
        assert (settings.local_root, settings.spool_folder) == (Path("var/media"), Path("var/spool"))
        assert settings.public_base_url == "http://127.0.0.1:8080"
        assert settings.ignored() == []

    def test_the_documented_names_are_read(self, loaded) -> None:  # type: ignore[no-untyped-def]
        settings = loaded(
            **KEYS,
            AWS_SESSION_TOKEN="token",
            AWS_S3_REGION="eu-central-1",
            AWS_S3_BUCKET="pictures",
            AWS_CLOUDFRONT_DOMAIN="d1.cloudfront.net",
            AWS_ENDPOINT_URL_S3="http://127.0.0.1:8333/",
        )
        assert settings.s3_chosen
        assert (settings.s3_bucket, settings.s3_region) == ("pictures", "eu-central-1")
        assert settings.session_token.get_secret_value() == "token"
        assert settings.cloudfront_domain == "d1.cloudfront.net"
        assert settings.s3_endpoint_url == "http://127.0.0.1:8333"

    def test_aliases_are_read(self, loaded) -> None:  # type: ignore[no-untyped-def]
        settings = loaded(**KEYS, S3_BUCKET_NAME="pictures", AWS_REGION="eu-west-1", USE_S3="1")
        assert (settings.s3_bucket, settings.s3_region, settings.use_s3) == ("pictures", "eu-west-1", "true")

    def test_a_documented_name_has_precedence_over_its_alias(self, loaded) -> None:  # type: ignore[no-untyped-def]
        settings = loaded(AWS_S3_BUCKET="one", S3_BUCKET_NAME="other", AWS_S3_REGION="eu-west-1", AWS_REGION="x")
        assert (settings.s3_bucket, settings.s3_region) == ("one", "eu-west-1")

    def test_a_bucket_without_keys_uses_a_role(self, loaded) -> None:  # type: ignore[no-untyped-def]
        assert loaded(AWS_S3_BUCKET="pictures").s3_chosen

    def test_use_s3_false_has_precedence(self, loaded) -> None:  # type: ignore[no-untyped-def]
        settings = loaded(**KEYS, AWS_S3_BUCKET="pictures", USE_S3="False")
        assert not settings.s3_chosen
        assert settings.ignored() == ["AWS_S3_BUCKET", "AWS_ACCESS_KEY_ID"]

    def test_keys_without_a_bucket_are_listed_as_ignored(self, loaded) -> None:  # type: ignore[no-untyped-def]
        settings = loaded(**KEYS, AWS_CLOUDFRONT_DOMAIN="d1.cloudfront.net")
        assert not settings.s3_chosen
        assert settings.ignored() == ["AWS_ACCESS_KEY_ID", "AWS_CLOUDFRONT_DOMAIN"]

    def test_secrets_are_masked(self, loaded) -> None:  # type: ignore[no-untyped-def]
        described = describe(loaded(**KEYS, AWS_S3_BUCKET="pictures", AWS_SESSION_TOKEN="also-secret"))
        assert described["AWS_S3_BUCKET"] == "pictures"
        assert "very-secret-value" not in str(described)
        assert "also-secret" not in str(described)

    @pytest.mark.parametrize("domain", ["https://d1.cloudfront.net", "d1.cloudfront.net/", "D1.CloudFront.net"])
    def test_a_cdn_domain_is_normalised(self, loaded, domain: str) -> None:  # type: ignore[no-untyped-def]
        assert loaded(AWS_CLOUDFRONT_DOMAIN=domain).cloudfront_domain == "d1.cloudfront.net"


class TestWrongSettings:
    @pytest.mark.parametrize(
        ("variables", "named"),
        [
            ({"USE_S3": "true"}, "AWS_S3_BUCKET"),
            ({**KEYS, "USE_S3": "true"}, "AWS_S3_BUCKET"),
            ({"USE_S3": "maybe"}, "USE_S3"),
            ({"AWS_S3_BUCKET": "pictures", "AWS_ACCESS_KEY_ID": "x"}, "AWS_SECRET_ACCESS_KEY"),
            ({"AWS_S3_BUCKET": "pictures", "AWS_SECRET_ACCESS_KEY": "x"}, "AWS_ACCESS_KEY_ID"),
            ({"AWS_S3_BUCKET": "No_Bucket"}, "AWS_S3_BUCKET"),
            ({"AWS_S3_BUCKET": "s3://pictures"}, "AWS_S3_BUCKET"),
            ({"AWS_CLOUDFRONT_DOMAIN": "d1.cloudfront.net/path"}, "AWS_CLOUDFRONT_DOMAIN"),
            ({"AWS_CLOUDFRONT_DOMAIN": "http://d1.cloudfront.net"}, "AWS_CLOUDFRONT_DOMAIN"),
            ({"AWS_CLOUDFRONT_DOMAIN": "evil.example/@d1.cloudfront.net"}, "AWS_CLOUDFRONT_DOMAIN"),
            ({"AWS_CLOUDFRONT_DOMAIN": "localhost"}, "AWS_CLOUDFRONT_DOMAIN"),
            ({"AWS_ENDPOINT_URL_S3": "127.0.0.1:8333"}, "AWS_ENDPOINT_URL_S3"),
            ({"PUBLIC_BASE_URL": "blog.example.org"}, "PUBLIC_BASE_URL"),
            ({"PUBLIC_BASE_URL": "https://user:pw@blog.example.org"}, "PUBLIC_BASE_URL"),
            ({"PUBLIC_BASE_URL": "https://blog.example.org/?a=1"}, "PUBLIC_BASE_URL"),
            ({"STORAGE_S3_THREADS": "0"}, "STORAGE_S3_THREADS"),
            ({"STORAGE_MAX_INFLIGHT_BYTES": "1000"}, "STORAGE_MAX_INFLIGHT_BYTES"),
            ({"STORAGE_S3_ENCRYPTION": "rot13"}, "STORAGE_S3_ENCRYPTION"),
        ],
    )
    def test_a_wrong_setting_is_named_and_ends_the_process(
        self,
        loaded,  # type: ignore[no-untyped-def]
        capsys: pytest.CaptureFixture[str],
        variables: dict[str, str],
        named: str,
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            loaded(**variables)
        assert caught.value.code == 2
        assert f"setting {named}:" in capsys.readouterr().err


def test_sigterm_ends_the_process(tmp_path: Path) -> None:
    environment = {**os.environ, "STORAGE_LISTEN": "127.0.0.1:0", "STORAGE_LOCAL_ROOT": str(tmp_path / "media")}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.storage"], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "serving" in line:
            process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    process.stderr.close()
    assert any("backend" in line and "kind=local" in line for line in lines)
