"""What goes, so that the farm lasts: objects that nothing refers to, pruned campaigns, old rows."""

from sqlalchemy import text

DOOMED = text("""
INSERT INTO tombstone (key, reason, found_at) SELECT DISTINCT key, :reason, now()
  FROM unnest(CAST(:keys AS text[])) AS g (key) ORDER BY key ON CONFLICT (key) DO NOTHING
""")
TOMBSTONES = text("""
SELECT key, reason, found_at FROM tombstone WHERE found_at <= now() - :older ORDER BY found_at, key LIMIT :limit
""")
SPARE = text("DELETE FROM tombstone WHERE key = ANY(CAST(:keys AS text[]))")

PICTURE_COUNT = text("SELECT count(*) FROM picture")

PRUNABLE = text("""
SELECT c.team_id, c.campaign_id FROM campaign c JOIN team t USING (team_id)
 WHERE c.finished_at <= now() - make_interval(days => t.retention_days) AND c.pruned_at IS NULL
 ORDER BY c.finished_at, c.campaign_id LIMIT :limit
""")

PRUNE_OUTCOMES = text("""
DELETE FROM outcome o USING (
  SELECT campaign_id, ordinal FROM outcome WHERE campaign_id = :campaign ORDER BY ordinal LIMIT :limit) AS old
 WHERE o.campaign_id = old.campaign_id AND o.ordinal = old.ordinal
RETURNING o.picture_id
""")

# Two statements: an outcome that refers to one of these must lock it first, so after this one nothing new does. What
# is locked already is just being taken over, so it stays.
LOCK_PICTURES = text("""
SELECT picture_id FROM picture WHERE picture_id = ANY(CAST(:pictures AS bigint[])) FOR UPDATE SKIP LOCKED
""")
PRUNE_PICTURES = text("""
DELETE FROM picture p WHERE p.picture_id = ANY(CAST(:pictures AS bigint[]))
   AND NOT EXISTS (SELECT FROM outcome o WHERE o.picture_id = p.picture_id)
RETURNING p.key, p.renditions
""")
PRUNED = text("""
UPDATE campaign c SET pruned_at = now() WHERE campaign_id = :campaign AND pruned_at IS NULL
   AND finished_at IS NOT NULL AND NOT EXISTS (SELECT FROM outcome o WHERE o.campaign_id = c.campaign_id)
""")

# Of each team its first events: there is no index by time, and they are in its order as good as exactly.
SWEEP_EVENTS = text("""
DELETE FROM event WHERE (team_id, event_id) IN (
  SELECT t.team_id, e.event_id FROM team t CROSS JOIN LATERAL (
    SELECT event_id, at FROM event WHERE team_id = t.team_id ORDER BY event_id LIMIT :limit) AS e
   WHERE e.at <= now() - :older ORDER BY e.at, t.team_id, e.event_id LIMIT :limit)
""")
SWEEP_ATTEMPTS = text("""
DELETE FROM attempt WHERE attempt_id IN (
  SELECT attempt_id FROM (SELECT attempt_id, at FROM attempt ORDER BY attempt_id LIMIT :limit) AS a
   WHERE a.at <= now() - :older)
""")
# A lease that the session left behind is still to be reclaimed, and its attempt to be signed with the name.
SWEEP_SESSIONS = text("""
DELETE FROM renderer WHERE session IN (
  SELECT r.session FROM renderer r
   WHERE r.ended_at <= now() - :older
     AND NOT EXISTS (SELECT FROM shard s WHERE s.session = r.session AND s.state = 'leased')
   ORDER BY r.ended_at LIMIT :limit)
""")
