-- What a memory's text stands in: searched with it, not shown.
ALTER TABLE lyceum.memory ADD COLUMN context text NOT NULL DEFAULT '';
