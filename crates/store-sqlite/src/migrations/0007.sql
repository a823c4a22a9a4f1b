-- What was said before and after something: the order of ids is that of storing.
CREATE INDEX memory_by_session ON memory (owner, session, id)
    WHERE kind = 'episode' AND session IS NOT NULL;
