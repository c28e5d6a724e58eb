-- What a job may do and what it is for. Jobs that were recorded before have neither: nobody noted it.
ALTER TABLE jobs ADD COLUMN environment TEXT;
ALTER TABLE jobs ADD COLUMN environment_url TEXT;
-- An object of scopes and levels.
ALTER TABLE jobs ADD COLUMN permissions TEXT;
