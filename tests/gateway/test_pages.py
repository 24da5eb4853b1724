"""The public pages: links below the path of the site, texts as posts rendered them, directions, pictures, icons."""

import re
from html.parser import HTMLParser

import httpx2
import pytest
from frontispiece.posts.v1 import posts_pb2

from gateway.pages.rendering import Pages, content_policy, inline, paragraphs
from gateway.settings import GatewaySettings
from tests.gateway.public_site import Site, post, public_site
from tests.gateway.scripted import TASK_ID, stored_image

PAGES = ("/", "/?q=door", "/posts/a-door", "/docs", "/no-such-page")


class Links(HTMLParser):
    """All addresses of a page that a browser follows or loads, and the directions of its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.tags.append((tag, values))
        if tag == "meta" or values.get("rel") == "canonical":
            return
        self.found += [value for name in ("href", "src", "action") if (value := values.get(name))]


async def page(site: Site, path: str, host: str = "") -> httpx2.Response:
    headers = {"accept": "text/html", **({"host": host} if host else {})}
    return await site.client.get(path, headers=headers)


class TestBasePath:
    @pytest.mark.parametrize("path", PAGES)
    async def test_every_link_of_every_page_has_the_path(self, path: str) -> None:
        base = "https://example.org/pictures"
        image = stored_image(url=f"{base}/media/generated/1-x.png")
        async with public_site(public_base_url=base) as site:
            featured = posts_pb2.FeaturedImage(image=image)
            found = posts_pb2.GetPostResponse(post=post(featured_image=featured))
            site.scripts.on("GetPost", lambda _: found)
            site.scripts.on("ListPosts", lambda _: posts_pb2.ListPostsResponse(posts=[found.post], next_page_token="n"))
            html = (await page(site, path)).text
        links = Links(html).found
        assert len(links) > 4
        wrong = [link for link in links if not link.startswith(("/pictures/", "#"))]
        assert not wrong

    @pytest.mark.parametrize("prefix", ["", "/pictures"])
    async def test_a_proxy_may_cut_the_path_off_or_leave_it(self, prefix: str) -> None:
        async with public_site(public_base_url="https://example.org/pictures") as site:
            front = await page(site, f"{prefix}/")
            assert front.status_code == 200
            for link in {one for one in Links(front.text).found if one.startswith("/pictures/static/")}:
                assert (await site.client.get(link if prefix else link.removeprefix("/pictures"))).status_code == 200
            assert (await page(site, f"{prefix}/posts/a-door")).status_code == 200
            moved = await page(site, f"{prefix}/posts/a-gate")
            assert (moved.status_code, moved.headers["location"]) == (301, "a-door")
            robots = (await site.client.get(f"{prefix}/robots.txt")).text
            assert "Disallow: /pictures/hub" in robots

    @pytest.mark.parametrize("path", ["/", "/posts/a-door", "/docs"])
    async def test_no_link_names_a_host(self, path: str) -> None:
        """A page works under any host name and port."""
        async with public_site(public_base_url="http://127.0.0.1:18080") as site:
            image = stored_image(url="http://127.0.0.1:18080/media/generated/1-x.png")
            found = post(featured_image=posts_pb2.FeaturedImage(image=image))
            site.scripts.on("GetPost", lambda _: posts_pb2.GetPostResponse(post=found))
            site.scripts.on("ListPosts", lambda _: posts_pb2.ListPostsResponse(posts=[found]))
            html = (await page(site, path, "desk.example:1234")).text
        assert not [link for link in Links(html).found if "//" in link]


class TestText:
    async def test_the_html_of_a_post_is_shown_as_it_is(self) -> None:
        html = '<h2>Sea</h2>\n<table><tr><td>a</td></tr></table><p>&lt;b&gt; "/media/x"</p>'
        async with public_site() as site:
            site.scripts.on("GetPost", lambda _: posts_pb2.GetPostResponse(post=post(html=html)))
            text = (await page(site, "/posts/a-door")).text
        assert html in text
        assert len(re.findall("<h1", text)) == 1

    async def test_excerpts_are_text(self) -> None:
        excerpt = "<script>alert(1)</script> & more"
        async with public_site() as site:
            found = post(excerpt=excerpt)
            site.scripts.on("GetPost", lambda _: posts_pb2.GetPostResponse(post=found))
            site.scripts.on("ListPosts", lambda _: posts_pb2.ListPostsResponse(posts=[found, post(id=TASK_ID[::-1])]))
            pages = [(await page(site, path)).text for path in ("/", "/posts/a-door")]
        for text in pages:
            assert "<script>alert" not in text
            assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text

    @pytest.mark.parametrize(
        ("html", "shown"),
        [
            ('<img src="/media/a.png" alt="x">', '<img src="/p/media/a.png" alt="x">'),
            ('<img alt="&gt;" loading="lazy" src="/media/a">', '<img alt="&gt;" loading="lazy" src="/p/media/a">'),
            ('<img alt="a > b" src="/media/a.png">', '<img alt="a > b" src="/p/media/a.png">'),
            ('<a href="/media/a.png">x</a>', '<a href="/p/media/a.png">x</a>'),
            ('<p>src="/media/a.png"</p>', '<p>src="/media/a.png"</p>'),
            ('<p>&lt;img src="/media/a.png"&gt;</p>', '<p>&lt;img src="/media/a.png"&gt;</p>'),
            ('<img alt="src=&quot;/media/" src="/media/b">', '<img alt="src=&quot;/media/" src="/p/media/b">'),
            ('<a href="https://x.example/media/a.png">x</a>', '<a href="https://x.example/media/a.png">x</a>'),
        ],
        ids=["image", "attributes", "raw bracket", "link", "text", "escaped", "alt", "elsewhere"],
    )  # fmt: skip
    def test_pictures_in_a_text_get_the_path_of_the_site(self, html: str, shown: str) -> None:
        assert Pages(GatewaySettings(public_base_url="https://x.example/p")).rendered(html) == shown
        assert Pages(GatewaySettings(public_base_url="https://x.example")).rendered(html) == html

    @pytest.mark.parametrize("part", ["<img ", '<img "', "<a href=", '<img src="/media/'])
    def test_a_hostile_text_takes_no_longer_than_its_length(self, part: str) -> None:
        """It ends at all: a search that begins again at each place would take hours."""
        pages = Pages(GatewaySettings(public_base_url="https://x.example/p"))
        assert len(pages.rendered(part * 100_000)) >= 100_000

    def test_descriptions_of_the_api_show_code(self) -> None:
        assert inline("The `url` of <b>") == "The <code>url</code> of &lt;b&gt;"
        assert paragraphs("One.\n\nTwo `x`.") == "<p>One.</p><p>Two <code>x</code>.</p>"


class TestDirection:
    async def test_words_of_writers_have_their_own_direction(self) -> None:
        words = {"title": "عنوان", "excerpt": "نص", "tag": "وسم", "author": "كاتب", "category": "قسم"}
        found = post(
            title=words["title"], excerpt=words["excerpt"], tags=[words["tag"]], html=f"<p>{words['excerpt']}</p>"
        )
        found.author.name, found.category.name = words["author"], words["category"]
        async with public_site() as site:
            site.scripts.on("GetPost", lambda _: posts_pb2.GetPostResponse(post=found))
            site.scripts.on("ListPosts", lambda _: posts_pb2.ListPostsResponse(posts=[found]))
            site.scripts.on("ListTags", lambda _: posts_pb2.ListTagsResponse(tags=[posts_pb2.Tag(name=words["tag"])]))
            site.scripts.on("ListAuthors", lambda _: posts_pb2.ListAuthorsResponse(authors=[found.author]))
            site.scripts.on("ListCategories", lambda _: posts_pb2.ListCategoriesResponse(categories=[found.category]))
            pages = [(await page(site, path)).text for path in ("/", "/posts/a-door")]
        for html in pages:
            body = html[html.index("<body>") :]
            for word in words.values():
                for place in re.finditer(re.escape(word), body):
                    tag = body[: place.start()].rpartition("<")[2]
                    assert 'dir="auto"' in tag or "alt=" in tag or tag == "p>", (word, tag)


class TestPictures:
    @pytest.mark.parametrize(
        ("settings", "sources"),
        [
            ({"public_base_url": "http://desk.example:8080/x"}, ["http://desk.example:8080"]),
            ({"s3_bucket": "images", "cdn_base_url": "http://localhost:8081/y"}, ["http://localhost:8081"]),
            ({"s3_bucket": "images", "cloudfront_domain": "d1.cloudfront.net"}, ["https://d1.cloudfront.net"]),
            ({"image_origins": "http://a.example, https://b.example:1"}, ["http://a.example", "https://b.example:1"]),
        ],
        ids=["gateway", "cdn", "cloudfront", "others"],
    )
    def test_the_content_policy_allows_every_origin_of_pictures(
        self, settings: dict[str, str], sources: list[str]
    ) -> None:
        policy = content_policy(GatewaySettings(**settings))  # type: ignore[arg-type]
        allowed = next(part for part in policy.split("; ") if part.startswith("img-src")).split()
        assert set(sources) | {"'self'"} <= set(allowed)

    async def test_pictures_at_a_cdn_keep_their_address(self) -> None:
        image = stored_image(url="https://cdn.example/generated/1-x.png")
        async with public_site(s3_bucket="images", cdn_base_url="https://cdn.example") as site:
            found = post(featured_image=posts_pb2.FeaturedImage(image=image))
            site.scripts.on("GetPost", lambda _: posts_pb2.GetPostResponse(post=found))
            html = (await page(site, "/posts/a-door")).text
        assert 'src="https://cdn.example/generated/1-x.png"' in html


class TestIcons:
    async def test_an_icon_is_where_every_program_looks_for_it(self) -> None:
        async with public_site() as site:
            icon = await site.client.get("/favicon.ico")
            assert (icon.status_code, icon.headers["content-type"]) == (200, "image/png")
            touch = next(v for _, v in Links((await page(site, "/")).text).tags if v.get("rel") == "apple-touch-icon")
            assert (await site.client.get(str(touch["href"]))).status_code == 200


class TestFront:
    async def test_names_are_bounded(self) -> None:
        async with public_site() as site:
            await page(site, "/")
            for method in ("ListTags", "ListCategories", "ListAuthors"):
                (request,) = site.scripts.sent(method)
                assert 0 < request.page_size <= 100

    async def test_a_filter_that_is_not_offered_is_named_by_its_posts(self) -> None:
        async with public_site() as site:
            found = post()
            found.author.slug, found.author.name = "zoe", "Zoë Zimmer"
            site.scripts.on("ListPosts", lambda _: posts_pb2.ListPostsResponse(posts=[found]))
            html = (await page(site, "/?author=zoe")).text
        assert re.search(r"<h1[^>]*>Zoë Zimmer</h1>", html)

    async def test_a_wrong_page_token_is_a_page_that_does_not_exist(self) -> None:
        from rpc import errors

        def refuse(_: object) -> None:
            raise errors.InvalidArgument.field("page_token", "is not a page token")

        async with public_site() as site:
            site.scripts.on("ListPosts", refuse)
            response = await page(site, "/?page_token=x")
        assert response.status_code == 404
        assert response.headers["content-type"].startswith("text/html")
