-- What the tables were made with, beside their format.
CREATE TABLE lyceum.setting (
    key   text PRIMARY KEY,
    value text NOT NULL
);
