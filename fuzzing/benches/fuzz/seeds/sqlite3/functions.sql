SELECT substr('abc', 2), upper(hex(x'01ff')), CASE WHEN 1 LIKE '1%' THEN round(2.5) ELSE abs(-1) END;
PRAGMA user_version; EXPLAIN SELECT 1;
