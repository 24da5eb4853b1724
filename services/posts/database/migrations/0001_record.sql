-- The record: authors, categories, tags, posts and their revisions; tasks, their images and events; idempotency keys.

CREATE TABLE authors (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    slug text COLLATE "C" NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9-]{1,100}$'),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    created_by text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX authors_by_name ON authors (name, id);

CREATE TABLE categories (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    slug text COLLATE "C" NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9-]{1,100}$'),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    created_by text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX categories_by_name ON categories (name, id);

CREATE TABLE tags (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 50)
);

-- The queue is this table. A row is GENERATING if and only if it carries a lease: whoever holds the token may write.
CREATE TABLE content_tasks (
    id uuid PRIMARY KEY,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN (
        'queued', 'generating', 'awaiting_approval', 'approved', 'rejected', 'cancelled', 'failed')),
    -- What to make. NULL: the generator's default.
    prompt text NOT NULL CHECK (length(prompt) BETWEEN 1 AND 2000),
    negative_prompt text NOT NULL,
    width integer,
    height integer,
    num_inference_steps integer,
    guidance_scale double precision,
    seed bigint NOT NULL CHECK (seed BETWEEN 0 AND 9007199254740991),
    scheduler text NOT NULL,
    model text NOT NULL,
    use_generation boolean NOT NULL,
    candidate_count smallint NOT NULL CHECK (candidate_count BETWEEN 1 AND 4),
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
    -- The post made of it. No reference: a post may be deleted, the decision stays.
    post_id uuid,
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

CREATE TABLE task_images (
    task_id uuid NOT NULL REFERENCES content_tasks ON DELETE CASCADE,
    index smallint NOT NULL CHECK (index BETWEEN 0 AND 3),
    key text NOT NULL,
    url text NOT NULL,
    image_source text NOT NULL CHECK (image_source IN ('sdxl-s3', 'sdxl-local', 'pexels')),
    width integer NOT NULL,
    height integer NOT NULL,
    content_type text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 text NOT NULL,
    thumbhash text NOT NULL,
    seed bigint NOT NULL,
    model text NOT NULL,
    model_revision text NOT NULL,
    scheduler text NOT NULL,
    num_inference_steps integer NOT NULL,
    guidance_scale double precision NOT NULL,
    batch_size integer NOT NULL,
    credit text NOT NULL,
    credit_url text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, index)
);
CREATE INDEX task_images_by_key ON task_images (key);

-- The truth for watchers. The sequence has no gaps: it is counted in the task's row, in the same statement.
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

-- Every stored event is announced, whoever writes it. The announcement is a hint: watchers read the table.
CREATE FUNCTION announce_task_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('frontispiece_events', NEW.task_id || ' ' || NEW.sequence || ' ' || coalesce(NEW.state, ''));
    RETURN NULL;
END
$$;
CREATE TRIGGER task_events_announce AFTER INSERT ON task_events
    FOR EACH ROW EXECUTE FUNCTION announce_task_event();

CREATE TABLE posts (
    id uuid PRIMARY KEY,
    slug text COLLATE "C" NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9-]{1,100}$'),
    state text NOT NULL CHECK (state IN ('draft', 'published')),
    title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    content text NOT NULL,
    featured_image_key text NOT NULL CHECK (featured_image_key <> ''),
    featured_image_url text NOT NULL CHECK (featured_image_url <> ''),
    alt_text text NOT NULL,
    image_width integer NOT NULL,
    image_height integer NOT NULL,
    image_thumbhash text NOT NULL,
    image_source text NOT NULL CHECK (image_source IN ('sdxl-s3', 'sdxl-local', 'pexels')),
    author_id uuid NOT NULL REFERENCES authors,
    category_id uuid NOT NULL REFERENCES categories,
    task_id uuid UNIQUE REFERENCES content_tasks,
    created_by text NOT NULL,
    updated_by text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    publish_time timestamptz,
    version bigint NOT NULL DEFAULT 1,
    -- When to tell storage (again) to keep the image; NULL once storage knows.
    image_keep_at timestamptz,
    sort_time timestamptz NOT NULL GENERATED ALWAYS AS (coalesce(publish_time, create_time)) STORED,
    search tsvector NOT NULL GENERATED ALWAYS AS (
        to_tsvector('simple'::regconfig, left(title || ' ' || content, 100000))) STORED,
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
    position smallint NOT NULL CHECK (position BETWEEN 0 AND 7),
    PRIMARY KEY (post_id, tag_id),
    UNIQUE (post_id, position)
);
CREATE INDEX post_tags_by_tag ON post_tags (tag_id);

-- What a post was before each of its changes.
CREATE TABLE post_revisions (
    post_id uuid NOT NULL REFERENCES posts ON DELETE CASCADE,
    version bigint NOT NULL,
    slug text NOT NULL,
    title text NOT NULL,
    content text NOT NULL,
    featured_image_key text NOT NULL,
    featured_image_url text NOT NULL,
    alt_text text NOT NULL,
    author_id uuid NOT NULL REFERENCES authors,
    category_id uuid NOT NULL REFERENCES categories,
    tags text[] NOT NULL,
    updated_by text NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (post_id, version)
);

-- Which call made what. Another body under the same key is refused.
CREATE TABLE idempotency_keys (
    principal text NOT NULL,
    operation text NOT NULL CHECK (operation IN ('CreateTask', 'CreatePost')),
    key text NOT NULL,
    request_hash bytea NOT NULL,
    result_id uuid NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (principal, operation, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (create_time);

CREATE VIEW task_records AS
SELECT t.*,
    CASE WHEN t.state = 'queued' THEN (
        SELECT count(*) FROM content_tasks b WHERE b.state = 'queued' AND (b.run_at, b.id) < (t.run_at, t.id)
    ) END AS queue_position
FROM content_tasks t;

CREATE VIEW post_records AS
SELECT p.id, p.slug, p.state, p.title, p.content, p.featured_image_key, p.featured_image_url, p.alt_text,
    p.image_width, p.image_height, p.image_thumbhash, p.image_source, p.author_id, p.category_id, p.task_id,
    p.created_by, p.updated_by, p.create_time, p.update_time, p.publish_time, p.version, p.sort_time,
    a.slug AS author_slug, a.name AS author_name,
    c.slug AS category_slug, c.name AS category_name,
    ARRAY(
        SELECT g.name FROM post_tags pt JOIN tags g ON g.id = pt.tag_id WHERE pt.post_id = p.id ORDER BY pt.position
    ) AS tags
FROM posts p
JOIN authors a ON a.id = p.author_id
JOIN categories c ON c.id = p.category_id;

-- The first approval needs nothing else.
INSERT INTO authors (slug, name, created_by) VALUES ('editorial-team', 'Editorial team', 'migration');
INSERT INTO categories (slug, name, created_by) VALUES ('general', 'General', 'migration');
