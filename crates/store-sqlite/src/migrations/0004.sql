-- Vectors of one model. Memories up to `upto` were offered to the embedder.
CREATE TABLE vector_space (
    id         INTEGER PRIMARY KEY,
    model      TEXT NOT NULL,
    dimensions INTEGER NOT NULL,
    upto       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (model, dimensions)
) STRICT;

-- A memory's vector: numbers of four bytes, little-endian, length one; NULL where the model
-- has nothing to say to the memory. An id is never used again, so a copy of a row that is gone
-- is never taken for another.
CREATE TABLE vector (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    space  INTEGER NOT NULL REFERENCES vector_space (id),
    owner  INTEGER NOT NULL REFERENCES owner (id),
    memory INTEGER NOT NULL REFERENCES memory (id) ON DELETE CASCADE,
    data   BLOB,
    UNIQUE (memory, space)
) STRICT;
CREATE INDEX vector_by_owner ON vector (space, owner, id);
