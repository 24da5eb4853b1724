-- A task and its images in one statement: one round trip, and what it says is of one moment.

CREATE OR REPLACE VIEW task_records AS
SELECT t.*,
    CASE WHEN t.state = 'queued' THEN (
        SELECT count(*) FROM content_tasks b WHERE b.state = 'queued' AND (b.run_at, b.id) < (t.run_at, t.id)
    ) END AS queue_position,
    (SELECT json_agg(i ORDER BY i.index) FROM task_images i WHERE i.task_id = t.id) AS images
FROM content_tasks t;
