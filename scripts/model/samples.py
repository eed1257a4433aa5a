"""Two hundred varied texts on which the quantized graph is compared with the exact one."""

from __future__ import annotations

COUNT = 200

PROSE = (
    "The garden behind the old library floods every spring, and nobody remembers who planted the willows.",
    "Caroline said she would move to Lisbon in March if the offer from the hospital still stands.",
    "We decided to keep the nightly backup at two o'clock because the export finishes around midnight.",
    "A lighthouse keeper counts ships the way other people count sheep.",
    "The quarterly report shows revenue of 4.2 million euros, eleven percent above the plan.",
    "My grandmother's recipe needs three eggs, a spoon of honey and far more patience than I have.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "After the merge the test for time zones failed on machines set to Pacific/Auckland.",
    "Der Zug nach München fährt um 7:42 Uhr von Gleis drei ab, wenn er nicht wieder Verspätung hat.",
    "Die Besprechung wurde auf Donnerstag verschoben; bitte bringt die Zahlen vom letzten Monat mit.",
    "Le conseil municipal a voté la rénovation de l'école, mais le budget reste à trouver.",
    "Elle avait laissé ses clés sur la table de la cuisine, à côté d'une lettre sans timbre.",
    "El perro de mi vecino ladra cada mañana cuando pasa el camión de la basura.",
    "La biblioteca cierra a las ocho, pero los sábados abre hasta medianoche.",
    "Il treno per Firenze è in ritardo di venti minuti a causa della neve.",
    "O relatório precisa ser entregue até sexta-feira, sem falta.",
    "De vergadering begint om negen uur, en er is koffie voor iedereen.",
    "Spotkanie przeniesiono na wtorek, ponieważ sala była zajęta.",
    "Toplantı yarın sabah saat onda başlayacak, lütfen geç kalmayın.",
    "Поезд прибывает на третий путь в шесть часов вечера.",
    "Το πλοίο φεύγει για τη Νάξο κάθε πρωί στις επτά.",
    "القطار يصل إلى المحطة في الساعة السادسة مساء.",
    "הפגישה נדחתה ליום חמישי בגלל השלג.",
    "बैठक कल सुबह दस बजे शुरू होगी।",
    "東京の桜は三月の終わりに咲きます。",
    "今天的会议改到下午三点,请大家准时参加。",
    "회의는 내일 아침 열 시에 시작합니다.",
    "การประชุมจะเริ่มเวลาสิบโมงเช้า",
)

CODE = (
    "def fibonacci(n: int) -> int:\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
    "SELECT wing, count(*) FROM drawers WHERE deleted_at IS NULL GROUP BY wing ORDER BY 2 DESC;",
    "for (let i = 0; i < items.length; i++) { total += items[i].price * items[i].quantity; }",
    'fn main() {\n    let names: Vec<String> = std::env::args().skip(1).collect();\n    println!("{names:?}");\n}',
    '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }',
    '{"id": 17, "tags": ["urgent", "billing"], "assignee": null, "due": "2026-05-08T14:30:00Z"}',
    'services:\n  web:\n    image: nginx:1.27\n    ports:\n      - "8080:80"\n    restart: unless-stopped',
    "git rebase --onto main feature~3 feature && git push --force-with-lease origin feature",
    "Traceback (most recent call last):\n  File \"app.py\", line 12, in <module>\nKeyError: 'PALACE_PATH'",
    "2026-11-02 03:14:07,112 ERROR [worker-3] connection to 10.0.4.17:5432 refused (attempt 4 of 5)",
    "func (s *Server) Close() error {\n\ts.mu.Lock()\n\tdefer s.mu.Unlock()\n\treturn s.listener.Close()\n}",
    '<section class="card"><h2>Opening hours</h2><p>Mon to Fri, 9 to 17</p></section>',
    "# Changelog\n\n## 2.4.0\n\n- Added: export to CSV\n- Fixed: crash when the file is empty",
    'import re\n\nPATTERN = re.compile(r"(?P<year>\\d{4})-(?P<month>\\d{2})")',
)

SHORT = (
    "",
    " ",
    "ok",
    "yes",
    "Thanks!",
    "see you tomorrow",
    "ERR_CONNECTION_RESET",
    "TICKET-48213",
    "a3f9c2e1-77b4-4d0e-9c55-0b8e5f1d2a6c",
    "v2.14.0-rc.3",
    "192.168.178.24",
    "3.14159",
    "2026-05-08",
    "PostgreSQL",
    "naïve café",
    "Zürich",
    "what did we decide about the cache?",
    "who is Melanie's sister?",
    "when does the lease end",
    "何時ですか",
    "你好",
    "감사합니다",
    "привет",
    "TODO",
)

SYMBOLS = (
    "😀",
    "🎉🎂🥳 happy birthday, Ana! 🎈",
    "👩‍🚀 → 🚀 → 🌕",
    "thumbs up 👍🏽 from the whole team 👨‍👩‍👧‍👦",
    "∑ x² ≤ ∞, therefore ∀ε > 0 ∃δ",
    "½ cup sugar, ¾ cup flour, 180 °C",
    "│ name │ age │\n├──────┼─────┤\n│ Ada  │  36 │",
    "*** !!! ??? --- ###",
    "x" * 150,
    "price: 12,50 € / £10.80 / ¥1,900",
)


def sample_texts() -> list[str]:
    """The texts above one by one, then paragraphs and long mixtures of them; always the same."""
    single = [*PROSE, *CODE, *SHORT, *SYMBOLS]
    paragraphs = [_paragraph(PROSE, start, 2 + start % 5) for start in range(64)]
    programs = ["\n\n".join((PROSE[start], CODE[start % len(CODE)])) for start in range(len(PROSE))]
    mixtures = [_paragraph(single, 3 * start, 20 + start) for start in range(COUNT)]
    return [*single, *paragraphs, *programs, *mixtures][:COUNT]


def _paragraph(texts: list[str] | tuple[str, ...], start: int, length: int) -> str:
    """Texts at a stride of five, which is coprime to the number of them, joined by blanks."""
    return " ".join(texts[(start + 5 * step) % len(texts)] for step in range(length))
