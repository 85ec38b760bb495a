"""Bodies that the OpenAPI description shows."""

CAMPAIGN = {
    "name": "Autumn coffee",
    "blocks": [
        {
            "sources": [{"source": "src_" + "0" * 64, "variables": {"sku": "A-17"}}],
            "styles": ["anime", "cinematic@3"],
            "strengths": [0.35, 0.7],
            "variants": 2,
        }
    ],
    "output": {"format": "webp", "quality": 90},
}

PROOFED = CAMPAIGN | {
    "name": "Autumn coffee, approved first, by Tuesday, for 25 at most",
    "proof": {},
    "deadline": "2026-12-01T09:00:00+01:00",
    "budget": {"money": 25.0, "warn_at": 0.8},
    "priority": 60,
}

CHILD = CAMPAIGN | {"name": "Autumn coffee, second look", "parent": "cmp_06yd2k7h00004", "proof": {"renders": 8}}

AMEND = {"priority": 80, "deadline": "2026-12-01T09:00:00+01:00", "budget": {"money": 40.0}}

MOVES = [{"to": "front"}, {"to": "back"}, {"before": "cmp_06yd2k7h00004"}]

REFINE = [
    {"strength": 0.3, "prompt": "softer light"},
    {"start": "source", "style": "cinematic@3", "seed": 7, "variants": 4},
    {"strength": 0.6, "mask": {"picture": "src_" + "0" * 64, "feather": 12}},
]
