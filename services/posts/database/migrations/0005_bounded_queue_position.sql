-- A page of queued tasks counted the whole queue for each of them. Beyond a thousand nobody asks how many there are.

CREATE OR REPLACE VIEW task_records AS
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
