-- Words are folded (case, accents) by the service: what lower() does to letters beyond ASCII depends on the locale of the
-- database, and under "C" it does nothing.

DROP INDEX posts_by_search;
ALTER TABLE posts DROP COLUMN search;
ALTER TABLE posts ADD COLUMN search tsvector NOT NULL DEFAULT ''::tsvector;
UPDATE posts SET search = to_tsvector('simple', left(title || ' ' || content, 100000));
ALTER TABLE posts ALTER COLUMN search DROP DEFAULT;
CREATE INDEX posts_by_search ON posts USING gin (search);
