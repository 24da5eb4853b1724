-- Authors, categories, tags, posts and their revisions; tasks, their images and events; idempotency keys.
--
-- The limits of the API are options in protos/ and are checked before a handler runs. CHECKs keep the invariants of the data.
-- A jsonb column holds one protobuf message in its JSON form, so a new field of the message needs no migration.

CREATE TABLE authors (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    slug text COLLATE "C" NOT NULL UNIQUE CHECK (slug <> ''),
    name text NOT NULL CHECK (name <> ''),
    created_by text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX authors_by_name ON authors (name, id);

CREATE TABLE categories (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    slug text COLLATE "C" NOT NULL UNIQUE CHECK (slug <> ''),
    name text NOT NULL CHECK (name <> ''),
    created_by text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX categories_by_name ON categories (name, id);

CREATE TABLE tags (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE CHECK (name <> '')
);

-- This table is the queue. A task is generating if and only if it has a lease. Only the holder of the token may write.
CREATE TABLE content_tasks (
    id uuid PRIMARY KEY,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN (
        'queued', 'generating', 'awaiting_approval', 'approved', 'rejected', 'cancelled', 'failed')),
    -- frontispiece.types.v1.GenerationParameters with the seed that was chosen, without the mask.
    parameters jsonb NOT NULL CHECK (parameters ?& ARRAY['prompt', 'seed']),
    candidate_count smallint NOT NULL CHECK (candidate_count >= 1),
    request_hash bytea NOT NULL,
    -- The queue.
    run_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempt_count integer NOT NULL DEFAULT 0 CHECK (attempt_count >= 0),
    max_attempts integer NOT NULL CHECK (max_attempts >= 1),
    lease_token uuid,
    lease_until timestamptz,
    -- Why the last attempt failed.
    error_reason text,
    error_message text,
    error_will_retry boolean,
    last_sequence bigint NOT NULL DEFAULT 0,
    -- The post made from the task. Not a reference: when the post is deleted, the decision remains.
    post_id uuid,
    -- When storage must be asked (again) to keep the initial image. NULL once storage has confirmed.
    initial_image_keep_at timestamptz,
    created_by text NOT NULL,
    updated_by text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((state = 'generating') = (lease_token IS NOT NULL)),
    CHECK ((state = 'generating') = (lease_until IS NOT NULL)),
    CHECK ((state = 'approved') = (post_id IS NOT NULL)),
    CHECK ((error_reason IS NULL) = (error_message IS NULL)),
    CHECK ((error_reason IS NULL) = (error_will_retry IS NULL))
);
CREATE INDEX content_tasks_queue ON content_tasks (run_at, id) WHERE state = 'queued';
CREATE INDEX content_tasks_leases ON content_tasks (lease_until) WHERE state = 'generating';
CREATE INDEX content_tasks_newest ON content_tasks (create_time DESC, id DESC);
CREATE INDEX content_tasks_newest_by_state ON content_tasks (state, create_time DESC, id DESC);
CREATE INDEX content_tasks_images_to_keep ON content_tasks (initial_image_keep_at)
    WHERE initial_image_keep_at IS NOT NULL;

-- A separate table, so that a list of tasks never reads a mask.
CREATE TABLE task_masks (
    task_id uuid PRIMARY KEY REFERENCES content_tasks ON DELETE CASCADE,
    data bytea NOT NULL CHECK (data <> '')
);
-- PNG is compressed already.
ALTER TABLE task_masks ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE task_images (
    task_id uuid NOT NULL REFERENCES content_tasks ON DELETE CASCADE,
    index smallint NOT NULL CHECK (index >= 0),
    -- frontispiece.posts.v1.TaskImage.
    image jsonb NOT NULL,
    key text NOT NULL GENERATED ALWAYS AS (image #>> '{image,key}') STORED CHECK (key <> ''),
    image_source text NOT NULL GENERATED ALWAYS AS (image ->> 'image_source') STORED
        CHECK (image_source IN ('sdxl-s3', 'sdxl-local', 'pexels')),
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, index)
);
CREATE INDEX task_images_by_key ON task_images (key);

-- What watchers read. A sequence has no gaps: it is counted in the row of the task, in the same statement.
CREATE TABLE task_events (
    task_id uuid NOT NULL REFERENCES content_tasks ON DELETE CASCADE,
    sequence bigint NOT NULL CHECK (sequence >= 1),
    time timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL CHECK (kind IN ('state', 'image')),
    attempt integer NOT NULL,
    actor text NOT NULL,
    state text,
    error_reason text,
    error_message text,
    error_will_retry boolean,
    post_id uuid,
    comment text NOT NULL DEFAULT '',
    image_index smallint,
    PRIMARY KEY (task_id, sequence),
    CHECK ((kind = 'state') = (state IS NOT NULL)),
    CHECK ((kind = 'image') = (image_index IS NOT NULL)),
    CHECK ((error_reason IS NULL) = (error_message IS NULL)),
    CHECK ((error_reason IS NULL) = (error_will_retry IS NULL))
);

-- Notifies about every stored event, whichever process stores it. The notification is a hint; readers query the table.
CREATE FUNCTION notify_task_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('frontispiece_events', NEW.task_id || ' ' || NEW.sequence || ' ' || coalesce(NEW.state, ''));
    RETURN NULL;
END
$$;
CREATE TRIGGER task_events_notify AFTER INSERT ON task_events
    FOR EACH ROW EXECUTE FUNCTION notify_task_event();

CREATE TABLE posts (
    id uuid PRIMARY KEY,
    slug text COLLATE "C" NOT NULL UNIQUE CHECK (slug <> ''),
    state text NOT NULL CHECK (state IN ('draft', 'published')),
    title text NOT NULL CHECK (title <> ''),
    content text NOT NULL,
    -- frontispiece.posts.v1.FeaturedImage.
    featured_image jsonb NOT NULL,
    featured_image_key text NOT NULL GENERATED ALWAYS AS (featured_image #>> '{image,key}') STORED
        CHECK (featured_image_key <> ''),
    featured_image_url text NOT NULL GENERATED ALWAYS AS (featured_image #>> '{image,url}') STORED
        CHECK (featured_image_url <> ''),
    author_id uuid NOT NULL REFERENCES authors,
    category_id uuid NOT NULL REFERENCES categories,
    -- The names of the tags in order, copied from post_tags by triggers, so that a page of posts needs no join.
    tags text[] NOT NULL DEFAULT '{}',
    task_id uuid UNIQUE REFERENCES content_tasks,
    created_by text NOT NULL,
    updated_by text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    publish_time timestamptz,
    version bigint NOT NULL DEFAULT 1,
    -- When storage must be asked (again) to keep the image. NULL once storage has confirmed.
    image_keep_at timestamptz,
    sort_time timestamptz NOT NULL GENERATED ALWAYS AS (coalesce(publish_time, create_time)) STORED,
    -- Written by the service, which folds case and accents itself: lower() depends on the locale of the database, and under
    -- "C" it changes ASCII letters only.
    search tsvector NOT NULL,
    CHECK ((state = 'published') = (publish_time IS NOT NULL))
);
CREATE INDEX posts_newest ON posts (sort_time DESC, id DESC);
CREATE INDEX posts_newest_by_state ON posts (state, sort_time DESC, id DESC);
CREATE INDEX posts_by_author ON posts (author_id);
CREATE INDEX posts_by_category ON posts (category_id);
CREATE INDEX posts_by_search ON posts USING gin (search);
CREATE INDEX posts_images_to_keep ON posts (image_keep_at) WHERE image_keep_at IS NOT NULL;

CREATE TABLE post_tags (
    post_id uuid NOT NULL REFERENCES posts ON DELETE CASCADE,
    tag_id uuid NOT NULL REFERENCES tags,
    position smallint NOT NULL CHECK (position >= 0),
    PRIMARY KEY (post_id, tag_id),
    UNIQUE (post_id, position)
);
CREATE INDEX post_tags_by_tag ON post_tags (tag_id);

-- Copies the names of tags to posts.tags, whatever changes post_tags or tags.
CREATE FUNCTION copy_tags_to_posts() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    touched uuid[];
BEGIN
    IF TG_TABLE_NAME = 'tags' THEN
        touched := ARRAY(SELECT pt.post_id FROM post_tags pt JOIN rows_after g ON g.id = pt.tag_id);
    ELSIF TG_OP = 'INSERT' THEN
        touched := ARRAY(SELECT post_id FROM rows_after);
    ELSIF TG_OP = 'DELETE' THEN
        touched := ARRAY(SELECT post_id FROM rows_before);
    ELSE
        touched := ARRAY(SELECT post_id FROM rows_before UNION SELECT post_id FROM rows_after);
    END IF;
    -- Waits for other transactions that change tags of these posts. The next statement sees their changes.
    PERFORM FROM posts WHERE id = ANY (touched) ORDER BY id FOR NO KEY UPDATE;
    UPDATE posts p SET tags = ARRAY(
        SELECT g.name FROM post_tags pt JOIN tags g ON g.id = pt.tag_id WHERE pt.post_id = p.id ORDER BY pt.position)
    WHERE p.id = ANY (touched);
    RETURN NULL;
END
$$;
CREATE TRIGGER post_tags_inserted AFTER INSERT ON post_tags REFERENCING NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION copy_tags_to_posts();
CREATE TRIGGER post_tags_updated AFTER UPDATE ON post_tags REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION copy_tags_to_posts();
CREATE TRIGGER post_tags_deleted AFTER DELETE ON post_tags REFERENCING OLD TABLE AS rows_before
    FOR EACH STATEMENT EXECUTE FUNCTION copy_tags_to_posts();
CREATE TRIGGER tags_updated AFTER UPDATE ON tags REFERENCING NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION copy_tags_to_posts();

-- The earlier versions of posts.
CREATE TABLE post_revisions (
    post_id uuid NOT NULL REFERENCES posts ON DELETE CASCADE,
    version bigint NOT NULL,
    slug text NOT NULL,
    title text NOT NULL,
    content text NOT NULL,
    featured_image jsonb NOT NULL,
    author_id uuid NOT NULL REFERENCES authors,
    category_id uuid NOT NULL REFERENCES categories,
    tags text[] NOT NULL,
    updated_by text NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (post_id, version)
);

-- The result of each call that had a request_id. The same key with another request is refused.
CREATE TABLE idempotency_keys (
    principal text NOT NULL,
    operation text NOT NULL CHECK (operation IN ('CreateTask', 'CreatePost', 'ApproveTask', 'RejectTask', 'RetryTask')),
    key text NOT NULL,
    request_hash bytea NOT NULL,
    result_id uuid NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (principal, operation, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (create_time);

-- A task with its images and its position in the queue, which is counted up to 1000.
CREATE VIEW task_records AS
SELECT t.*,
    CASE WHEN t.state = 'queued' THEN (
        SELECT count(*) FROM (
            SELECT FROM content_tasks b
            WHERE b.state = 'queued' AND (b.run_at, b.id) < (t.run_at, t.id)
            LIMIT 1000
        ) earlier
    ) END AS queue_position,
    (SELECT json_agg(i.image ORDER BY i.index) FROM task_images i WHERE i.task_id = t.id) AS images
FROM content_tasks t;

-- A post with its author and category.
CREATE VIEW full_posts AS
SELECT p.id, p.slug, p.state, p.title, p.content, p.featured_image, p.author_id, p.category_id, p.tags, p.task_id,
    p.created_by, p.updated_by, p.create_time, p.update_time, p.publish_time, p.version, p.sort_time,
    a.slug AS author_slug, a.name AS author_name,
    c.slug AS category_slug, c.name AS category_name
FROM posts p
JOIN authors a ON a.id = p.author_id
JOIN categories c ON c.id = p.category_id;

-- The first approval needs an author and a category.
INSERT INTO authors (slug, name, created_by) VALUES ('editorial-team', 'Editorial team', 'migration');
INSERT INTO categories (slug, name, created_by) VALUES ('general', 'General', 'migration');
