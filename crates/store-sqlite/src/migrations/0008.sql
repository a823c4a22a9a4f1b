-- When a thread was last written, so that those that nobody continues can be found.
ALTER TABLE thread ADD COLUMN written_at INTEGER NOT NULL DEFAULT 0;
UPDATE thread SET written_at = CAST(unixepoch() AS INTEGER) * 1000;
