-- What the generator has learned to do since: LoRAs as [{"name": …, "weight": …}], and guidance that ends early.

ALTER TABLE content_tasks
    ADD COLUMN guidance_end double precision CHECK (guidance_end BETWEEN 0 AND 1),
    ADD COLUMN loras jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(loras) = 'array');

-- The columns of a view are those of the day it was made.
DROP VIEW task_records;
CREATE VIEW task_records AS
SELECT t.*,
    CASE WHEN t.state = 'queued' THEN (
        SELECT count(*) FROM content_tasks b WHERE b.state = 'queued' AND (b.run_at, b.id) < (t.run_at, t.id)
    ) END AS queue_position,
    (SELECT json_agg(i ORDER BY i.index) FROM task_images i WHERE i.task_id = t.id) AS images
FROM content_tasks t;
