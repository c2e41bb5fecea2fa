"""The grammar of the generated notes: which words a note of each kind is likely to have.

A note is a few sentences.  Each sentence is one of the note's own kind, or, with the probability ``mix``, of any other;
a sentence is a pattern whose places are filled from lists.  Hospitals differ in their opening phrases and in how often
they see each kind.  Nothing here is of a person: every word stands in this file.
"""

from __future__ import annotations

__all__ = ["HOSPITALS", "KINDS", "OPENINGS", "PATTERNS", "SHARED", "SHARES", "WORDS"]

KINDS = ("cardiac", "respiratory", "neurological", "abdominal", "orthopaedic")
HOSPITALS = ("north", "south", "harbour", "valley")

_COMPLAINTS = {
    "cardiac": (
        "palpitations",
        "chest tightness",
        "ankle swelling",
        "syncope",
        "exertional chest pain",
        "irregular heartbeat",
        "orthopnoea",
    ),
    "respiratory": (
        "productive cough",
        "wheeze",
        "shortness of breath",
        "haemoptysis",
        "pleuritic pain",
        "night cough",
        "noisy breathing",
    ),
    "neurological": (
        "headache",
        "left sided weakness",
        "slurred speech",
        "blurred vision",
        "dizziness",
        "tremor",
        "numb fingers",
    ),
    "abdominal": (
        "nausea",
        "loose stools",
        "epigastric pain",
        "vomiting",
        "heartburn",
        "bloating",
        "poor appetite",
    ),
    "orthopaedic": (
        "knee pain",
        "swollen ankle",
        "stiff shoulder",
        "back pain",
        "hip pain after a fall",
        "wrist deformity",
        "limping gait",
    ),
}
_SIGNS = {
    "cardiac": (
        "systolic murmur",
        "raised jugular pressure",
        "pitting oedema",
        "atrial fibrillation on ecg",
        "st depression",
        "high troponin",
        "low ejection fraction",
    ),
    "respiratory": (
        "basal crackles",
        "dull percussion",
        "low saturation",
        "consolidation on film",
        "prolonged expiration",
        "pleural effusion",
        "hyperinflated lungs",
    ),
    "neurological": (
        "brisk reflexes",
        "facial droop",
        "nystagmus",
        "ataxic gait",
        "papilloedema",
        "upgoing plantar",
        "reduced sensation",
    ),
    "abdominal": (
        "tender epigastrium",
        "guarding",
        "hyperactive bowel sounds",
        "raised lipase",
        "gallstones on ultrasound",
        "distended abdomen",
        "palpable liver",
    ),
    "orthopaedic": (
        "joint effusion",
        "reduced range of motion",
        "bony tenderness",
        "fracture line on film",
        "positive drawer test",
        "crepitus",
        "muscle wasting",
    ),
}
_TREATMENTS = {
    "cardiac": (
        "bisoprolol",
        "furosemide",
        "ramipril",
        "aspirin",
        "amiodarone",
        "apixaban",
        "spironolactone",
    ),
    "respiratory": (
        "salbutamol",
        "prednisolone",
        "amoxicillin",
        "tiotropium",
        "oxygen",
        "doxycycline",
        "physiotherapy for the chest",
    ),
    "neurological": (
        "levetiracetam",
        "sumatriptan",
        "alteplase",
        "levodopa",
        "gabapentin",
        "dexamethasone",
        "lumbar puncture",
    ),
    "abdominal": (
        "omeprazole",
        "ondansetron",
        "intravenous fluids",
        "metronidazole",
        "mesalazine",
        "laxatives",
        "cholecystectomy",
    ),
    "orthopaedic": (
        "plaster cast",
        "ibuprofen",
        "arthroscopy",
        "physiotherapy",
        "crutches",
        "hip replacement",
        "splint",
    ),
}
WORDS = {"complaint": _COMPLAINTS, "sign": _SIGNS, "treatment": _TREATMENTS}
SHARED = {
    "person": (
        "man",
        "woman",
        "patient",
        "retired teacher",
        "young adult",
        "builder",
        "nurse",
        "student",
        "farmer",
        "driver",
    ),
    "decade": (
        "twenties",
        "thirties",
        "forties",
        "fifties",
        "sixties",
        "seventies",
        "eighties",
    ),
    "time": (
        "for two days",
        "for a week",
        "since yesterday",
        "for several months",
        "since last winter",
        "on and off for years",
        "after exercise",
        "at night",
    ),
    "degree": (
        "mild",
        "moderate",
        "severe",
        "worsening",
        "intermittent",
        "stable",
        "new",
    ),
    "past": (
        "diabetes",
        "hypertension",
        "no allergies",
        "a former smoker",
        "obesity",
        "anaemia",
        "kidney disease",
        "depression",
        "gout",
        "a previous stroke",
        "asthma in childhood",
        "no regular medication",
    ),
    "plan": (
        "review in clinic",
        "discharge home",
        "repeat bloods tomorrow",
        "admit to the ward",
        "refer to the specialist",
        "observe overnight",
        "call if worse",
        "book a scan",
    ),
}
PATTERNS = (
    "{degree} {complaint} {time}",
    "reports {complaint} and {complaint}",
    "on examination {sign}",
    "{sign} with {complaint}",
    "started {treatment}",
    "{treatment} given for {complaint}",
    "{degree} {complaint} with {sign}",
    "continue {treatment} and {plan}",
)
OPENINGS = {
    "north": ("{person} in the {decade} with {past}.", "seen today {person} in the {decade}."),
    "south": ("known {past} {person} presents.", "{person} {decade} background of {past}."),
    "harbour": ("referred by the family doctor {person} with {past}.", "walk in {person} in {decade}."),
    "valley": ("telephone consultation {person} history of {past}.", "{person} from the care home in the {decade}."),
}
SHARES = {
    "north": (4, 2, 2, 1, 1),
    "south": (1, 4, 1, 2, 2),
    "harbour": (2, 1, 3, 2, 2),
    "valley": (1, 1, 2, 3, 3),
}
"""How often each hospital sees each kind, in tenths."""
