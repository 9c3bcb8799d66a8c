/* tools.h: a tool with its server-side settings, parameters checked, prompt rendered.  SPI connected, owner scope entered. */
#ifndef SPARKY_TOOLS_H
#define SPARKY_TOOLS_H

#include "postgres.h"
#include "gemini.h"

typedef struct Tool
{
	char	   *id;
	GenerationKind kind;
	bool		active;
	int			price;			/* credits */
	char	   *parameter_schema;	/* JSON text or NULL */
	int			revision;
	char	   *model;			/* NULL: no tool_settings row */
	char	   *prompt;
	char	   *system_instruction;
	char	   *response_schema;
	char	   *generation_config;
	int			timeout_seconds;	/* tool_settings.timeout or sparky.call_timeout */
	int64		cache_ttl_seconds;
} Tool;

/* false: no such tool. Latest committed state. */
extern bool sparky_tool_read(const char *tool_id, Tool *tool);
/*
 * Check parameters (JSON text) against the tool's schema: WORD_NONE,
 * WORD_BAD_PARAMETERS or WORD_PRO_REQUIRED (a pro hairstyle, and pro is false); why gets the detail.
 */
extern ErrorWord sparky_tool_check_parameters(const Tool *tool, const char *parameters, bool pro, char *why, size_t why_size);
/* The prompt with its placeholders filled; NULL when a named row is gone. palloc'd. */
extern char *sparky_tool_render(const Tool *tool, const char *parameters);

#endif
