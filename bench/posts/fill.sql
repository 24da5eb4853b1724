-- Posts of about 250 words with 3 tags, in the order of time as a service writes them. $N is the number of posts.
-- Words, tags, authors and categories have the skewed frequencies of real texts: the word of rank r occurs about 1/r as
-- often as the first. Beside them, words, tags, authors and categories of a known frequency:
--   quality 60 %, quarter 0.4 %, quokka 5 posts; quick 10 % and quiet 10 % of posts, never together.
--   tag common 60 %, share 0.4 %, rare 5 posts, empty: of drafts only; author and category likewise.

CREATE UNLOGGED TABLE bench_words AS
SELECT r, syllable[1 + r % 100] || syllable[1 + r / 100 % 100] || syllable[1 + r / 10000 % 100] AS word
FROM generate_series(0, 29999) r, (
    SELECT array_agg(c || v ORDER BY md5(c || v)) AS syllable
    FROM unnest(string_to_array('b c d f g h j k l m n p r s t v w y z ch', ' ')) c, unnest(string_to_array('a e i o u', ' ')) v
) s;
CREATE UNIQUE INDEX ON bench_words (r);

CREATE UNLOGGED TABLE bench_paragraphs AS
SELECT n, string_agg(word, ' ') AS text, array_agg(DISTINCT word) AS words
FROM (
    SELECT n, (exp(random() * ln(30000)) - 1)::integer AS r
    FROM generate_series(0, 9999) n, generate_series(1, 50)
) drawn JOIN bench_words USING (r) GROUP BY n;
CREATE UNIQUE INDEX ON bench_paragraphs (n);
ANALYZE bench_words, bench_paragraphs;

INSERT INTO authors (slug, name, created_by)
SELECT name, name, 'bench' FROM unnest(ARRAY['full', 'share', 'rare', 'empty']) name
UNION ALL SELECT 'author-' || n, 'Author ' || n, 'bench' FROM generate_series(1, greatest(10, $N / 1000)) n;
INSERT INTO categories (slug, name, created_by)
SELECT name, name, 'bench' FROM unnest(ARRAY['full', 'share', 'rare', 'empty']) name
UNION ALL SELECT 'category-' || n, 'Category ' || n, 'bench' FROM generate_series(1, 50) n;
INSERT INTO tags (name, identity)
SELECT name, name FROM unnest(ARRAY['common', 'share', 'rare', 'empty']) name
UNION ALL SELECT 'tag-' || n, 'tag-' || n FROM generate_series(1, greatest(22, least(20000, $N / 50))) n;

-- The draws of each post. Rare: five posts spread over all.
CREATE UNLOGGED TABLE bench_posts AS
SELECT n, gen_random_uuid() AS id, random() < 0.05 AND n % ($N / 5) <> $N / 10 AS is_draft,
    n % ($N / 5) = $N / 10 AS is_rare,
    ARRAY(SELECT (random() * 9999)::integer FROM generate_series(1, 5) WHERE n > 0) AS paragraphs,
    random() AS place, random() AS by_author, random() AS by_category,
    (exp(random() * ln(greatest(10, $N / 1000))) - 1)::integer AS author,
    (exp(random() * ln(50)) - 1)::integer AS category
FROM generate_series(1, $N) n;
CREATE UNLOGGED TABLE bench_post_tags AS
SELECT n, id AS post_id, name, row_number() OVER (PARTITION BY n) - 1 AS position FROM (
    SELECT n, id, CASE
        WHEN is_draft THEN 'empty' WHEN is_rare THEN 'rare' WHEN place < 0.6 THEN 'common' WHEN place < 0.604 THEN 'share'
        ELSE 'tag-1' END AS name
    FROM bench_posts
    UNION
    SELECT n, id, 'tag-' || 2 + (random() * random() * (greatest(20, least(20000, $N / 50)) - 2))::integer
    FROM bench_posts, generate_series(1, 2)
) drawn;

CREATE UNLOGGED TABLE bench_rows AS
SELECT b.*, tagged.tags, timestamptz '2026-11-01' - ($N - b.n) * interval '90 seconds' AS time,
    (SELECT id FROM authors WHERE slug = CASE
        WHEN is_draft THEN 'empty' WHEN is_rare THEN 'rare' WHEN by_author < 0.6 THEN 'full'
        WHEN by_author < 0.604 THEN 'share' ELSE 'author-' || 1 + author END) AS author_id,
    (SELECT id FROM categories WHERE slug = CASE
        WHEN is_draft THEN 'empty' WHEN is_rare THEN 'rare' WHEN by_category < 0.6 THEN 'full'
        WHEN by_category < 0.604 THEN 'share' ELSE 'category-' || 1 + category END) AS category_id,
    '.' || CASE WHEN random() < 0.6 THEN ' quality' ELSE '' END || CASE WHEN random() < 0.004 THEN ' quarter' ELSE '' END
    || CASE WHEN is_rare THEN ' quokka' ELSE '' END
    || CASE WHEN place < 0.1 THEN ' quick' WHEN place < 0.2 THEN ' quiet' ELSE '' END || ' end' AS ending
FROM bench_posts b
JOIN (SELECT n, array_agg(name ORDER BY position) AS tags FROM bench_post_tags GROUP BY n) tagged USING (n);

INSERT INTO posts (id, slug, state, title, content, featured_image, author_id, category_id, created_by, updated_by,
    create_time, update_time, publish_time, first_publish_time, tags, search, html, excerpt,
    derived_version$URL_COLUMN)
SELECT b.id, 'post-' || b.n, CASE WHEN is_draft THEN 'draft' ELSE 'published' END, 'Post ' || b.n || ' of ' || first,
    text || ending, replace($IMAGE, 'KEY', 'generated/' || b.id || '.png')::jsonb, author_id, category_id,
    'bench', 'bench', time, time, CASE WHEN NOT is_draft THEN time END,
    CASE WHEN NOT is_draft THEN time END, tags,
    array_to_tsvector(ARRAY['post', 'of', n::text] || words || string_to_array(ltrim(ending, '. '), ' ')),
    '<p>' || replace(text, E'\n\n', E'</p>\n<p>') || ending || '</p>', left(replace(text, E'\n\n', ' '), 200),
    $DERIVED_VERSION$URL_VALUE
FROM (SELECT * FROM bench_rows ORDER BY n) b
CROSS JOIN LATERAL (
    SELECT string_agg(text, E'.\n\n') AS text, min(g.words[1]) AS first FROM bench_paragraphs g
    WHERE g.n = ANY (b.paragraphs)
) texts
CROSS JOIN LATERAL (
    SELECT array_agg(word) AS words FROM bench_paragraphs g, unnest(g.words) word WHERE g.n = ANY (b.paragraphs)
) cut;

INSERT INTO post_tags (post_id, tag_id, position, state, category_id, author_id, sort_time)
SELECT p.id, g.id, b.position, p.state, p.category_id, p.author_id, p.sort_time
FROM bench_post_tags b JOIN posts p ON p.id = b.post_id JOIN tags g ON g.name = b.name
ORDER BY b.n;

UPDATE tags g SET post_count = n FROM (
    SELECT tag_id, count(*) AS n FROM post_tags WHERE state = 'published' GROUP BY tag_id) c WHERE c.tag_id = g.id;
DROP TABLE bench_words, bench_paragraphs, bench_posts, bench_rows, bench_post_tags;
