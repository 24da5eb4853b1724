-- Which of the images of a task an editor approved.

ALTER TABLE content_tasks ADD COLUMN approved_image_index integer
    CHECK (approved_image_index IS NULL OR (state = 'approved' AND approved_image_index >= 0));

-- For earlier decisions: the image that the post shows. Unknown if the post was deleted or shows another image by now.
UPDATE content_tasks t SET approved_image_index = i.index
FROM posts p JOIN task_images i ON i.key = p.featured_image_key
WHERE p.id = t.post_id AND i.task_id = t.id AND t.state = 'approved';

-- t.* is expanded when a view is created.
DROP VIEW task_records;
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
