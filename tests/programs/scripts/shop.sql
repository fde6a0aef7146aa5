PRAGMA journal_mode = DELETE;
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT);
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL);
CREATE TABLE sale (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customer, item INTEGER REFERENCES item, amount INTEGER, day TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
INSERT INTO customer SELECT i, printf('customer %03d', i), substr('ABCDEFG', 1 + i % 7, 1) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
INSERT INTO item SELECT i, 'item ' || i, (i * 37 % 1000) / 10.0 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
INSERT INTO sale SELECT i, 1 + i * 7919 % 300, 1 + i * 104729 % 100, 1 + i % 9, date('2024-01-01', '+' || (i % 366) || ' days') FROM n;
CREATE INDEX sale_customer ON sale (customer);
CREATE INDEX sale_day ON sale (day, item);
