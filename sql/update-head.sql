/*
 * sparky: the update script, made by sql/build from the same fragments as the
 * extension script, whose rules hold here too.
 */
\echo Use "ALTER EXTENSION sparky UPDATE" to load this file. \quit

