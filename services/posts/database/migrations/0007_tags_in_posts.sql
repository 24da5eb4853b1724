-- The names of a post's tags in its own row, so that a page of posts gathers nothing. post_tags stays what is written and
-- what filters read; triggers copy from it, whoever writes: also a process of the version before.

ALTER TABLE posts ADD COLUMN tags text[] NOT NULL DEFAULT '{}';

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
    -- Whoever else is changing tags of these posts is waited for here; the next statement sees what they have done.
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

UPDATE posts p SET tags = t.names
FROM (
    SELECT pt.post_id, array_agg(g.name ORDER BY pt.position) AS names
    FROM post_tags pt JOIN tags g ON g.id = pt.tag_id
    GROUP BY pt.post_id
) t
WHERE t.post_id = p.id;

-- A view of its own: post_records stays for processes of the version before. Readers lock a view before its tables, writers
-- after them; to replace one in use is to wait for the former or the latter until somebody is thrown out.
CREATE VIEW full_posts AS
SELECT p.id, p.slug, p.state, p.title, p.content, p.featured_image_key, p.featured_image_url, p.alt_text,
    p.image_width, p.image_height, p.image_thumbhash, p.image_source, p.author_id, p.category_id, p.task_id,
    p.created_by, p.updated_by, p.create_time, p.update_time, p.publish_time, p.version, p.sort_time,
    a.slug AS author_slug, a.name AS author_name,
    c.slug AS category_slug, c.name AS category_name,
    p.tags
FROM posts p
JOIN authors a ON a.id = p.author_id
JOIN categories c ON c.id = p.category_id;
