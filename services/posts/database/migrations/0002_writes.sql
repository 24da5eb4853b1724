-- What is made of a text when it is written; former slugs; tags that are one whatever their case.

-- HTML, excerpt and search are derived from title and content by the version of the program in derived_version. The worker
-- makes them again where it is older.
ALTER TABLE posts
    ADD COLUMN html text NOT NULL DEFAULT '',
    ADD COLUMN excerpt text NOT NULL DEFAULT '',
    ADD COLUMN derived_version integer NOT NULL DEFAULT 0,
    -- A post that is taken back and published again keeps its date.
    ADD COLUMN first_publish_time timestamptz;
UPDATE posts SET first_publish_time = publish_time,
    -- Until the worker has made it from the Markdown.
    excerpt = btrim(left(regexp_replace(left(content, 1000), '[[:space:]#>*_`~|\\]+', ' ', 'g'), 220));
CREATE INDEX posts_to_derive ON posts (derived_version);

-- Slugs that published posts had earlier. They lead to the post for ever, so no other post gets one of them.
CREATE TABLE post_slugs (
    slug text COLLATE "C" PRIMARY KEY,
    post_id uuid NOT NULL REFERENCES posts ON DELETE CASCADE,
    change_time timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX post_slugs_by_post ON post_slugs (post_id);
INSERT INTO post_slugs (slug, post_id)
SELECT DISTINCT ON (r.slug) r.slug, r.post_id FROM post_revisions r
WHERE NOT EXISTS (SELECT FROM posts p WHERE p.slug = r.slug) ORDER BY r.slug, r.update_time DESC;

-- The name in its compared form: equal for names that differ in case, width or spaces. The migration fills it with the
-- function of the program, joins the tags that are equal, and adds NOT NULL and UNIQUE.
ALTER TABLE tags ADD COLUMN identity text COLLATE "C";

-- For whoever inserts a tag without it: a process of the version before while this one replaces it, or a person with SQL.
CREATE FUNCTION fill_tag_identity() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.identity := lower(normalize(regexp_replace(NEW.name, '[[:space:]]+', ' ', 'g'), NFKC));
    RETURN NEW;
END
$$;
CREATE TRIGGER tags_identity BEFORE INSERT ON tags FOR EACH ROW
    WHEN (NEW.identity IS NULL) EXECUTE FUNCTION fill_tag_identity();

-- The author and the category of posts that name none: the first.
CREATE INDEX authors_by_age ON authors (create_time, id);
CREATE INDEX categories_by_age ON categories (create_time, id);

CREATE OR REPLACE VIEW full_posts AS
SELECT p.id, p.slug, p.state, p.title, p.content, p.featured_image, p.author_id, p.category_id, p.tags, p.task_id,
    p.created_by, p.updated_by, p.create_time, p.update_time, p.publish_time, p.version, p.sort_time,
    a.slug AS author_slug, a.name AS author_name,
    c.slug AS category_slug, c.name AS category_name,
    p.html, p.excerpt, p.derived_version,
    a.id = (SELECT id FROM authors ORDER BY create_time, id LIMIT 1) AS author_is_default,
    c.id = (SELECT id FROM categories ORDER BY create_time, id LIMIT 1) AS category_is_default
FROM posts p
JOIN authors a ON a.id = p.author_id
JOIN categories c ON c.id = p.category_id;
