-- Tools as the client shows them. parameter_schema: see doc/tools.md.
WITH given (id, name_key, description_key, type, icon_name, sort_order, credits, parameter_schema) AS (VALUES
	('hairstyle-changer', 'tool.hairstyleChanger.name', 'tool.hairstyleChanger.description', 'TRANSFORMATION', 'ScissorsIcon', 10, 1,
		'{"type": "object", "properties": {
			"hairstyle_id": {"type": "string", "x-values": "hairstyles.id", "description": "The new hairstyle"},
			"hair_color": {"type": "string", "x-values": "hair_colors.hex_code", "description": "A new hair colour; left out, the colour stays"}},
		"required": ["hairstyle_id"], "additionalProperties": false}'),
	('hair-color', 'tool.hairColor.name', 'tool.hairColor.description', 'TRANSFORMATION', 'SwatchIcon', 20, 1,
		'{"type": "object", "properties": {
			"color": {"type": "string", "x-values": "hair_colors.hex_code", "description": "The new hair colour"}},
		"required": ["color"], "additionalProperties": false}'),
	('skin-tone', 'tool.skinTone.name', 'tool.skinTone.description', 'TRANSFORMATION', 'SunIcon', 30, 1,
		'{"type": "object", "properties": {
			"color": {"type": "string", "x-values": "skin_colors.hex_code", "description": "The new skin tone"}},
		"required": ["color"], "additionalProperties": false}'),
	('background', 'tool.background.name', 'tool.background.description', 'TRANSFORMATION', 'PhotoIcon', 40, 1,
		'{"type": "object", "properties": {
			"background": {"type": "string", "enum": ["studio", "beach", "city", "forest", "mountains", "office", "cafe", "library", "sunset", "night sky"],
				"description": "Where the person is to be"}},
		"required": ["background"], "additionalProperties": false}'),
	('retouch', 'tool.retouch.name', 'tool.retouch.description', 'FILTER', 'SparklesIcon', 50, 1,
		'{"type": "object", "properties": {
			"strength": {"type": "string", "enum": ["low", "medium", "high"], "description": "How much is smoothed"}},
		"required": ["strength"], "additionalProperties": false}'),
	('cartoon', 'tool.cartoon.name', 'tool.cartoon.description', 'FILTER', 'FaceSmileIcon', 60, 1,
		'{"type": "object", "properties": {}, "additionalProperties": false}'),
	('vintage', 'tool.vintage.name', 'tool.vintage.description', 'FILTER', 'FilmIcon', 70, 1,
		'{"type": "object", "properties": {}, "additionalProperties": false}'),
	('face-shape', 'tool.faceShape.name', 'tool.faceShape.description', 'ANALYSIS', 'UserCircleIcon', 80, 1,
		'{"type": "object", "properties": {}, "additionalProperties": false}'),
	('skin-analysis', 'tool.skinAnalysis.name', 'tool.skinAnalysis.description', 'ANALYSIS', 'MagnifyingGlassIcon', 90, 1,
		'{"type": "object", "properties": {}, "additionalProperties": false}'),
	('color-season', 'tool.colorSeason.name', 'tool.colorSeason.description', 'ANALYSIS', 'PaintBrushIcon', 100, 1,
		'{"type": "object", "properties": {}, "additionalProperties": false}')
), overwritten AS (
	UPDATE public.tools t
	SET name_key = g.name_key, description_key = g.description_key, type = g.type::public.tool_type, icon_name = g.icon_name,
		sort_order = g.sort_order, credits = g.credits, parameter_schema = g.parameter_schema::jsonb, is_active = true
	FROM given g WHERE overwrite AND t.id = g.id
)
INSERT INTO public.tools (id, name_key, description_key, type, icon_name, sort_order, credits, parameter_schema)
SELECT g.id, g.name_key, g.description_key, g.type::public.tool_type, g.icon_name, g.sort_order, g.credits, g.parameter_schema::jsonb
FROM given g ON CONFLICT DO NOTHING;
