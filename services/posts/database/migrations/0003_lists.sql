-- Lists of posts whose cost does not depend on the number of posts: a row of post_tags carries what a list filters and
-- sorts by, with one index for each combination of filters, and the number of posts of a tag is kept.

-- state, category_id, author_id and sort_time of the post, copied by triggers.
ALTER TABLE post_tags
    ADD COLUMN state text,
    ADD COLUMN category_id uuid,
    ADD COLUMN author_id uuid,
    ADD COLUMN sort_time timestamptz;
ALTER TABLE tags ADD COLUMN post_count integer NOT NULL DEFAULT 0 CHECK (post_count >= 0);

-- As in 0001, but an update of the new columns is no change of tags.
CREATE OR REPLACE FUNCTION copy_tags_to_posts() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    renamed uuid[];
    touched uuid[];
BEGIN
    IF TG_TABLE_NAME = 'tags' THEN
        renamed := ARRAY(SELECT a.id FROM rows_after a JOIN rows_before b USING (id) WHERE a.name <> b.name);
        IF cardinality(renamed) = 0 THEN
            RETURN NULL;
        END IF;
        touched := ARRAY(SELECT post_id FROM post_tags WHERE tag_id = ANY (renamed));
    ELSIF TG_OP = 'INSERT' THEN
        touched := ARRAY(SELECT post_id FROM rows_after);
    ELSIF TG_OP = 'DELETE' THEN
        touched := ARRAY(SELECT post_id FROM rows_before);
    ELSE
        touched := ARRAY(
            SELECT post_id FROM (
                (SELECT post_id, tag_id, position FROM rows_before EXCEPT
                    SELECT post_id, tag_id, position FROM rows_after)
                UNION
                (SELECT post_id, tag_id, position FROM rows_after EXCEPT
                    SELECT post_id, tag_id, position FROM rows_before)
            ) changed);
    END IF;
    IF cardinality(touched) = 0 THEN
        RETURN NULL;
    END IF;
    -- Waits for other transactions that change tags of these posts. The next statement sees their changes.
    PERFORM FROM posts WHERE id = ANY (touched) ORDER BY id FOR NO KEY UPDATE;
    UPDATE posts p SET tags = ARRAY(
        SELECT g.name FROM post_tags pt JOIN tags g ON g.id = pt.tag_id WHERE pt.post_id = p.id ORDER BY pt.position)
    WHERE p.id = ANY (touched);
    RETURN NULL;
END
$$;
DROP TRIGGER tags_updated ON tags;
CREATE TRIGGER tags_updated AFTER UPDATE ON tags REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION copy_tags_to_posts();

UPDATE post_tags pt SET state = p.state, category_id = p.category_id, author_id = p.author_id, sort_time = p.sort_time
FROM posts p WHERE p.id = pt.post_id;
UPDATE tags g SET post_count = (SELECT count(*) FROM post_tags pt WHERE pt.tag_id = g.id AND pt.state = 'published');
ALTER TABLE post_tags
    ALTER COLUMN state SET NOT NULL,
    ALTER COLUMN category_id SET NOT NULL,
    ALTER COLUMN author_id SET NOT NULL,
    ALTER COLUMN sort_time SET NOT NULL;

CREATE FUNCTION copy_post_to_new_tag() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT state, category_id, author_id, sort_time INTO NEW.state, NEW.category_id, NEW.author_id, NEW.sort_time
    FROM posts WHERE id = NEW.post_id;
    RETURN NEW;
END
$$;
CREATE TRIGGER post_tags_copy BEFORE INSERT ON post_tags FOR EACH ROW EXECUTE FUNCTION copy_post_to_new_tag();

CREATE FUNCTION copy_post_to_tags() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE post_tags SET state = NEW.state, category_id = NEW.category_id, author_id = NEW.author_id,
        sort_time = NEW.sort_time
    WHERE post_id = NEW.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER posts_copy AFTER UPDATE ON posts FOR EACH ROW
    WHEN ((OLD.state, OLD.category_id, OLD.author_id, OLD.sort_time)
        IS DISTINCT FROM (NEW.state, NEW.category_id, NEW.author_id, NEW.sort_time))
    EXECUTE FUNCTION copy_post_to_tags();

-- Adds to tags.post_count what a statement changed. The rows are locked in one order, so that two posts with the same tags
-- do not deadlock.
CREATE FUNCTION count_posts_of_tags() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    gained uuid[] := '{}';
    lost uuid[] := '{}';
BEGIN
    IF TG_OP <> 'DELETE' THEN
        gained := ARRAY(SELECT tag_id FROM rows_after WHERE state = 'published');
    END IF;
    IF TG_OP <> 'INSERT' THEN
        lost := ARRAY(SELECT tag_id FROM rows_before WHERE state = 'published');
    END IF;
    IF gained = lost THEN
        RETURN NULL;
    END IF;
    PERFORM FROM tags WHERE id = ANY (gained || lost) ORDER BY id FOR NO KEY UPDATE;
    UPDATE tags g SET post_count = g.post_count + change.difference
    FROM (
        SELECT id, sum(difference)::integer AS difference
        FROM (SELECT unnest(gained) AS id, 1 AS difference UNION ALL SELECT unnest(lost), -1) each
        GROUP BY id HAVING sum(difference) <> 0
    ) change
    WHERE g.id = change.id;
    RETURN NULL;
END
$$;
CREATE TRIGGER post_tags_count_inserted AFTER INSERT ON post_tags REFERENCING NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION count_posts_of_tags();
CREATE TRIGGER post_tags_count_updated AFTER UPDATE ON post_tags
    REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION count_posts_of_tags();
CREATE TRIGGER post_tags_count_deleted AFTER DELETE ON post_tags REFERENCING OLD TABLE AS rows_before
    FOR EACH STATEMENT EXECUTE FUNCTION count_posts_of_tags();

-- One index for each combination of filters, in the order of the lists.
CREATE INDEX post_tags_newest ON post_tags (state, tag_id, sort_time DESC, post_id DESC);
CREATE INDEX post_tags_newest_by_category ON post_tags (state, tag_id, category_id, sort_time DESC, post_id DESC);
CREATE INDEX post_tags_newest_by_author ON post_tags (state, tag_id, author_id, sort_time DESC, post_id DESC);
CREATE INDEX post_tags_newest_by_both
    ON post_tags (state, tag_id, category_id, author_id, sort_time DESC, post_id DESC);
CREATE INDEX posts_newest_by_category ON posts (state, category_id, sort_time DESC, id DESC);
CREATE INDEX posts_newest_by_author ON posts (state, author_id, sort_time DESC, id DESC);
CREATE INDEX posts_newest_by_both ON posts (state, category_id, author_id, sort_time DESC, id DESC);
CREATE INDEX tags_most_used ON tags ((-post_count), name) WHERE post_count > 0;
DROP INDEX posts_newest; -- each list has a state

-- The hours, and the periods of 8, 64 ... hours, that a time is in, each as a number of its own. Beside the words, they
-- limit a search to the newest posts. services/posts/content/periods.py computes the same numbers.
CREATE FUNCTION periods_of(moment timestamptz) RETURNS integer[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ARRAY[h, 100000000 + (h >> 3), 200000000 + (h >> 6), 300000000 + (h >> 9), 400000000 + (h >> 12),
        500000000 + (h >> 15)]
    FROM floor(extract(epoch FROM moment - timestamptz '1970-01-01 00:00:00+00') / 3600) t (hour),
        CAST(hour AS integer) h
$$;
ALTER TABLE posts ADD COLUMN periods integer[] NOT NULL
    GENERATED ALWAYS AS (periods_of(coalesce(publish_time, create_time))) STORED;

-- A search must not read a list of rows that are not indexed yet, so fastupdate is off. More statistics: searches choose
-- their way by the frequencies of words.
DROP INDEX posts_by_search;
CREATE INDEX posts_by_search ON posts USING gin (search, periods) WITH (fastupdate = off);
ALTER TABLE posts ALTER COLUMN search SET STATISTICS 1000;

-- Names in the order of people: without regard to case and accents. No collation of that kind is in every PostgreSQL, and
-- lower() changes ASCII letters only under "C". NFKD has taken the marks from letters; these have none that it could take.
CREATE FUNCTION sort_name_of(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT translate(lower(regexp_replace(normalize(name, NFKD), '[\u0300-\u036f]', '', 'g')),
        'АБВГДЕЖЗИКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯЄІЇЈЉЊЋЂЏҐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩςŁłØøĐđÆæŒœẞßÞþıĦħ',
        'абвгдежзиклмнопрстуфхцчшщъыьэюяєіїјљњћђџґαβγδεζηθικλμνξοπρστυφχψωσllooddaaoossttihh')
$$;
ALTER TABLE authors ADD COLUMN sort_name text COLLATE "C" NOT NULL GENERATED ALWAYS AS (sort_name_of(name)) STORED;
ALTER TABLE categories ADD COLUMN sort_name text COLLATE "C" NOT NULL GENERATED ALWAYS AS (sort_name_of(name)) STORED;
DROP INDEX authors_by_name;
DROP INDEX categories_by_name;
CREATE INDEX authors_by_name ON authors (sort_name, id);
CREATE INDEX categories_by_name ON categories (sort_name, id);
