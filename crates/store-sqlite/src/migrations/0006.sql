-- What a memory's text stands in: searched with it, not shown.
ALTER TABLE memory ADD COLUMN context TEXT NOT NULL DEFAULT '';
