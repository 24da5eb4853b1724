-- Addresses of images are made from keys when they are read. Caches are told of changes.

-- The addresses below which this system has ever served: of the gateway, or of a CDN. URLs of ours in texts begin with them.
CREATE TABLE addresses (
    url text PRIMARY KEY CHECK (url <> ''),
    is_cdn boolean NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO addresses (url, is_cdn)
SELECT DISTINCT substring(featured_image_url FROM '^(https?://.*)/media/generated/'), false FROM posts
WHERE featured_image_url ~ '^https?://.+/media/generated/';
INSERT INTO addresses (url, is_cdn)
SELECT DISTINCT substring(featured_image_url FROM '^(https?://.*)/generated/'), true FROM posts
WHERE featured_image_url ~ '^https?://.+/generated/' AND featured_image_url !~ '^https?://.+/media/generated/'
ON CONFLICT DO NOTHING;

-- featured_image_url is for those who read the table; the services make URLs from keys. `address_version` names the
-- addresses with which that column and the URLs in the text were written. A worker with others writes them again.
ALTER TABLE posts ALTER COLUMN featured_image_url DROP EXPRESSION;
ALTER TABLE posts ADD COLUMN address_version text NOT NULL DEFAULT '';
CREATE INDEX posts_by_address_version ON posts (address_version);

UPDATE posts SET featured_image = featured_image #- '{image,url}' WHERE featured_image #> '{image,url}' IS NOT NULL;
UPDATE post_revisions SET featured_image = featured_image #- '{image,url}'
WHERE featured_image #> '{image,url}' IS NOT NULL;
UPDATE task_images SET image = image #- '{image,url}' #- '{generation,parameters,initial_image,url}';
UPDATE content_tasks SET parameters = parameters #- '{initial_image,url}'
WHERE parameters #> '{initial_image,url}' IS NOT NULL;

-- Images that are not known to be in the bucket. A worker asks storage, because only there a CDN reaches them.
CREATE INDEX posts_not_in_bucket ON posts (id) WHERE featured_image #>> '{image,in_bucket}' IS DISTINCT FROM 'true';
CREATE INDEX task_images_not_in_bucket ON task_images (task_id, index)
    WHERE image #>> '{image,in_bucket}' IS DISTINCT FROM 'true';

-- Tells caches that something that they hold may have changed. Notifications of one transaction are one.
CREATE FUNCTION notify_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('frontispiece_changes', '');
    RETURN NULL;
END
$$;
-- Not for every column: maintenance updates some all the time that no page shows.
CREATE TRIGGER posts_notify
    AFTER INSERT OR DELETE OR UPDATE OF version, content, html, excerpt, featured_image, address_version, tags ON posts
    FOR EACH STATEMENT EXECUTE FUNCTION notify_change();
CREATE TRIGGER tags_notify AFTER INSERT OR UPDATE OR DELETE ON tags
    FOR EACH STATEMENT EXECUTE FUNCTION notify_change();
CREATE TRIGGER authors_notify AFTER INSERT OR UPDATE OR DELETE ON authors
    FOR EACH STATEMENT EXECUTE FUNCTION notify_change();
CREATE TRIGGER categories_notify AFTER INSERT OR UPDATE OR DELETE ON categories
    FOR EACH STATEMENT EXECUTE FUNCTION notify_change();

-- A stored URL would be right until the next change of port, domain or CDN. Also for a process of an earlier version that is
-- still being replaced, and for statements written by hand.
CREATE FUNCTION keep_no_url() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'posts' THEN
        NEW.featured_image_url := coalesce(NEW.featured_image #>> '{image,url}', NEW.featured_image_url);
        NEW.featured_image := NEW.featured_image #- '{image,url}';
    ELSE
        NEW.image := NEW.image #- '{image,url}' #- '{generation,parameters,initial_image,url}';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER posts_keep_no_url BEFORE INSERT OR UPDATE OF featured_image ON posts
    FOR EACH ROW EXECUTE FUNCTION keep_no_url();
CREATE TRIGGER task_images_keep_no_url BEFORE INSERT OR UPDATE OF image ON task_images
    FOR EACH ROW EXECUTE FUNCTION keep_no_url();
