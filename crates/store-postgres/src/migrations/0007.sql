-- Items that nodes of graphs keep beside their threads. A shelf is a path, each part ended by
-- U+001F; a value is JSON as text, which may name U+0000.
CREATE TABLE lyceum.item (
    shelf      text   COLLATE "C" NOT NULL,
    key        bytea  NOT NULL,
    value      text   NOT NULL,
    vector     real[],
    expires_at bigint,
    updated_at bigint NOT NULL,
    PRIMARY KEY (shelf, key)
);
CREATE INDEX item_by_end ON lyceum.item (expires_at) WHERE expires_at IS NOT NULL;
