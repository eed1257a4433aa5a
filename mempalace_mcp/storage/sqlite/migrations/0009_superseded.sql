-- What has taken a drawer's place: the id of the drawer that says how it is now.

ALTER TABLE drawers ADD COLUMN superseded_by TEXT;
ALTER TABLE versions ADD COLUMN superseded_by TEXT;
CREATE INDEX drawers_by_successor ON drawers (superseded_by) WHERE superseded_by IS NOT NULL;

CREATE TRIGGER successor_purged AFTER DELETE ON drawers BEGIN
    UPDATE drawers SET superseded_by = old.superseded_by WHERE superseded_by = old.drawer_id;
END;
