-- What was said before and after something: the order of ids is that of storing.
CREATE INDEX memory_by_session ON lyceum.memory (owner, session, id) WHERE kind = 'episode';
