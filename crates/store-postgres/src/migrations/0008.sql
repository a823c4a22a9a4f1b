-- When a memory holds and since when that is known. `bounded` marks those that may not hold now.
ALTER TABLE lyceum.memory
    ADD COLUMN valid_from      bigint,
    ADD COLUMN valid_to        bigint,
    ADD COLUMN recorded_at     bigint,
    ADD COLUMN superseded_by   text COLLATE "C",
    ADD COLUMN superseded_at   bigint,
    ADD COLUMN superseded_from bigint,
    ADD COLUMN bounded         boolean NOT NULL DEFAULT false;
UPDATE lyceum.memory SET valid_from = created_at, recorded_at = created_at;
ALTER TABLE lyceum.memory
    ALTER COLUMN valid_from SET NOT NULL,
    ALTER COLUMN recorded_at SET NOT NULL;
CREATE INDEX memory_bounded ON lyceum.memory (owner) WHERE bounded;
