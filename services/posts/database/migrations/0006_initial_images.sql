-- A task may begin from a stored image, {"key": …, "url": …, "strength": …, "mask_sha256": …}, and leave its end to a refiner.

ALTER TABLE content_tasks
    ADD COLUMN denoising_end double precision CHECK (denoising_end > 0 AND denoising_end < 1),
    ADD COLUMN initial_image jsonb CHECK (
        initial_image ?& ARRAY['key', 'url', 'strength', 'mask_sha256'] AND initial_image ->> 'key' <> ''),
    -- When to tell storage (again) to keep that image; NULL once storage knows.
    ADD COLUMN initial_image_keep_at timestamptz;
CREATE INDEX content_tasks_images_to_keep ON content_tasks (initial_image_keep_at)
    WHERE initial_image_keep_at IS NOT NULL;

-- A table of its own, so that no list of tasks ever reads a mask.
CREATE TABLE task_masks (
    task_id uuid PRIMARY KEY REFERENCES content_tasks ON DELETE CASCADE,
    data bytea NOT NULL CHECK (octet_length(data) BETWEEN 1 AND 262144)
);
-- PNG is compressed already.
ALTER TABLE task_masks ALTER COLUMN data SET STORAGE EXTERNAL;

-- The picture of a post may be one that no task made.
ALTER TABLE posts DROP CONSTRAINT posts_image_source_check;
ALTER TABLE posts ADD CONSTRAINT posts_image_source_check
    CHECK (image_source IN ('sdxl-s3', 'sdxl-local', 'pexels', 'upload'));

-- The columns of a view are those of the day it was made.
DROP VIEW task_records;
CREATE VIEW task_records AS
SELECT t.*,
    CASE WHEN t.state = 'queued' THEN (
        SELECT count(*) FROM (
            SELECT FROM content_tasks b
            WHERE b.state = 'queued' AND (b.run_at, b.id) < (t.run_at, t.id)
            LIMIT 1000
        ) before
    ) END AS queue_position,
    (SELECT json_agg(i ORDER BY i.index) FROM task_images i WHERE i.task_id = t.id) AS images
FROM content_tasks t;
