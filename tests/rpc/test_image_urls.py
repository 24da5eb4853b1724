"""Where image URLs begin: at CloudFront, at another CDN, or at the gateway."""

import pytest

from rpc.image_urls import ImageUrls
from services.storage.settings import StorageSettings

KEY = "generated/1790000000-6f1f.png"


def url(**settings: str) -> str:
    """The URL that a storage process with these settings returns."""
    chosen = StorageSettings.model_validate({"public_base_url": "https://blog.example.org", **settings})
    return ImageUrls.of(chosen).url(KEY, in_bucket=True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, f"https://blog.example.org/media/{KEY}"),
        ({"s3_bucket": "images"}, f"https://blog.example.org/media/{KEY}"),
        ({"s3_bucket": "images", "cloudfront_domain": "d111.cloudfront.net"}, f"https://d111.cloudfront.net/{KEY}"),
        ({"s3_bucket": "images", "cdn_base_url": "http://localhost:8081/"}, f"http://localhost:8081/{KEY}"),
        (
            {"s3_bucket": "images", "cdn_base_url": "http://cdn:8081", "cloudfront_domain": "d111.cloudfront.net"},
            f"http://cdn:8081/{KEY}",
        ),
        ({"cdn_base_url": "http://localhost:8081"}, f"https://blog.example.org/media/{KEY}"),
    ],
)
def test_a_url_begins_with_the_address_of_cdn_or_gateway(settings: dict[str, str], expected: str) -> None:
    assert url(**settings) == expected


@pytest.mark.parametrize("wrong", ["localhost:8081", "ftp://cdn", "http://cdn/?a=b"])
def test_a_wrong_cdn_address_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is not an address such as"):
        url(cdn_base_url=wrong)
