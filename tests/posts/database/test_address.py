"""URLs of the database as providers print them: they work, or are refused by name."""

import ssl

import pytest

from services.posts.database.address import parse

WORKING = {
    "plain": ("postgresql://u:p@h/db", "postgresql://u:p@h/db"),
    "heroku": ("postgres://u:p@ec2-1.compute-1.amazonaws.com:5432/d1", None),
    "escaped": ("postgresql://u:p%40ss%23w%25ord@h/db", None),
    "socket": ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=%2Frun%2Fpostgresql"),
    "hosts": ("postgresql://u@[::1]:5433,b:5434/db?target_session_attrs=read-write", None),
    "prisma": ("postgresql://u@h/db?schema=public&connection_limit=1", "postgresql://u@h/db"),
    "prisma-schema": ("postgresql://u@h/db?schema=blog", "postgresql://u@h/db?search_path=blog"),
    "supabase-session": ("postgresql://postgres.x:p@aws-0-eu-1.pooler.supabase.com:5432/postgres", None),
    "options": ("postgresql://u@h/db?options=-c%20geqo%3Doff", None),
    "require": ("postgresql://u:p@ep-x.eu-2.aws.neon.tech/neondb?sslmode=require", None),
    "keepalives": ("postgresql://u@h/db?keepalives=1&keepalives_idle=30&application_name=x", "postgresql://u@h/db"),
}


@pytest.mark.parametrize(("url", "passed"), WORKING.values(), ids=WORKING)
def test_a_url_of_a_provider_is_passed_to_the_driver(url: str, passed: str | None) -> None:
    address = parse(url)
    assert address.url == (passed or url)
    assert address.arguments == {}


REFUSED = {
    "driver": ("postgresql+asyncpg://u@h/db", r"must begin with postgresql://, not postgresql\+asyncpg://"),
    "mysql": ("mysql://u@h/db", "must begin with postgresql://"),
    "empty": ("h", "must begin with postgresql://"),
    "at-hash-percent": ("postgresql://u:p@ss#w%ord@h/db", "%23"),
    "at": ("postgresql://u:p@ss@h/db", "%40"),
    "percent": ("postgresql://u:p%ord@h/db", "%25"),
    "slash": ("postgresql://u:pa/ss@h/db", "%2F"),
    "question": ("postgresql://u:pa?ss@h/db", "%3F"),
    "colon-in-host": ("postgresql://u:pw@h:5432:1/db", "host and port"),
    "port": ("postgresql://u@h:99999/db", "99999"),
    "unknown": ("postgresql://u@h/db?foo=1", "parameter foo is not known"),
    "no-value": ("postgresql://u@h/db?sslmode", "name=value"),
    "sslmode": ("postgresql://u@h/db?sslmode=required", "sslmode must be one of"),
    "no-certificate": ("postgresql://u@h/db?sslmode=verify-full&sslrootcert=/none.pem", "no file /none.pem"),
    "system-weak": ("postgresql://u@h/db?sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
    "binding-weak": (
        "postgresql://u@h/db?sslmode=disable&channel_binding=require",
        "channel_binding=require needs TLS",
    ),
    "connect-timeout": ("postgresql://u@h/db?connect_timeout=soon", "connect_timeout must be a whole number"),
    "encoding": ("postgresql://u@h/db?client_encoding=latin1", "client_encoding must be utf8"),
    "pgbouncer": ("postgresql://u@h/db?pgbouncer=true", "transaction pooler.*LISTEN"),
    "supabase": ("postgresql://u@aws-0-eu-1.pooler.supabase.com:6543/postgres", "transaction pooler.*port 5432"),
    "neon": ("postgresql://u@ep-x-pooler.eu-2.aws.neon.tech/neondb?sslmode=require", "transaction pooler.*-pooler"),
}


@pytest.mark.parametrize(("url", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_named(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        parse(url)
    assert "p@ss" not in str(raised.value)


def test_no_message_holds_the_password() -> None:
    for url in ("postgresql://u:hunter2#@h/db", "postgresql://u:hunter2@h:x/db", "postgresql://u:hunter2@h/db?x=1"):
        with pytest.raises(ValueError, match=r"host|escaped|known") as raised:
            parse(url)
        assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "query",
    ["sslmode=require&channel_binding=require", "sslmode=verify-full&sslrootcert=system", "sslmode=verify-full"],
    ids=["neon", "system", "verify-full"],
)
def test_certificates_are_verified_by_the_authorities_of_the_system(query: str) -> None:
    """channel_binding=require, which the driver lacks, asks for the same proof."""
    address = parse(f"postgresql://u:p@h/db?{query}")
    context = address.arguments["ssl"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert address.url == "postgresql://u:p@h/db"


def test_times_and_the_cache_of_statements_are_settable() -> None:
    address = parse("postgresql://u@h/db?connect_timeout=10&statement_cache_size=0")
    assert address.connect_seconds == 10
    assert address.arguments == {"statement_cache_size": 0}
