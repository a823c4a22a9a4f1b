-- When a thread was last written, so that those that nobody continues can be found. It has no
-- index: every commit writes it, in place.
ALTER TABLE lyceum.thread ADD COLUMN written_at bigint NOT NULL DEFAULT 0;
UPDATE lyceum.thread SET written_at = lyceum.now_ms();
