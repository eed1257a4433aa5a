"""Notes in the sixteen languages of the multilingual model, by which its graph is compared with the release."""

from __future__ import annotations

SENTENCES: dict[str, tuple[str, ...]] = {
    "ar": (
        "تأجل الاجتماع إلى يوم الخميس بسبب الأمطار.",
        "ابنتي تعاني من حساسية تجاه الفول السوداني.",
        "اتفقنا على تشغيل النسخ الاحتياطي كل ليلة عند الساعة الثانية.",
    ),
    "de": (
        "Die Besprechung wurde auf Donnerstag verschoben, weil es in Strömen regnet.",
        "Meine Tochter ist allergisch gegen Erdnüsse.",
        "Wir lassen die Sicherung jede Nacht um zwei Uhr laufen.",
    ),
    "en": (
        "The meeting was moved to Thursday because of the rain.",
        "My daughter is allergic to peanuts.",
        "We run the backup every night at two o'clock.",
    ),
    "es": (
        "La reunión se ha aplazado al jueves por la lluvia.",
        "Mi hija es alérgica a los cacahuetes.",
        "La copia de seguridad se ejecuta todas las noches a las dos.",
    ),
    "fr": (
        "La réunion a été repoussée à jeudi à cause de la pluie.",
        "Ma fille est allergique aux cacahuètes.",
        "La sauvegarde tourne chaque nuit à deux heures.",
    ),
    "it": (
        "La riunione è stata spostata a giovedì per via della pioggia.",
        "Mia figlia è allergica alle arachidi.",
        "Il backup parte ogni notte alle due.",
    ),
    "ja": (
        "会議は雨のため木曜日に延期されました。",
        "娘はピーナッツアレルギーがあります。",
        "バックアップは毎晩二時に実行します。",
    ),
    "ko": (
        "비 때문에 회의가 목요일로 미뤄졌습니다.",
        "우리 딸은 땅콩 알레르기가 있습니다.",
        "백업은 매일 밤 두 시에 실행합니다.",
    ),
    "nl": (
        "De vergadering is vanwege de regen naar donderdag verplaatst.",
        "Mijn dochter is allergisch voor pinda's.",
        "De back-up draait elke nacht om twee uur.",
    ),
    "pl": (
        "Spotkanie przełożono na czwartek z powodu deszczu.",
        "Moja córka ma alergię na orzeszki ziemne.",
        "Kopia zapasowa wykonuje się co noc o drugiej.",
    ),
    "pt": (
        "A reunião foi adiada para quinta-feira por causa da chuva.",
        "Minha filha é alérgica a amendoim.",
        "O backup é executado todas as noites às duas horas.",
    ),
    "ru": (
        "Встречу перенесли на четверг из-за дождя.",
        "У моей дочери аллергия на арахис.",
        "Резервное копирование запускается каждую ночь в два часа.",
    ),
    "th": (
        "การประชุมเลื่อนไปเป็นวันพฤหัสบดีเพราะฝนตก",
        "ลูกสาวของฉันแพ้ถั่วลิสง",
        "เราสำรองข้อมูลทุกคืนตอนตีสอง",
    ),
    "tr": (
        "Toplantı yağmur yüzünden perşembeye ertelendi.",
        "Kızımın yer fıstığına alerjisi var.",
        "Yedekleme her gece saat ikide çalışıyor.",
    ),
    "zh": (
        "会议因为下雨改到星期四。",
        "我女儿对花生过敏。",
        "备份每天凌晨两点运行。",
    ),
    "zh-TW": (
        "會議因為下雨改到星期四。",
        "我女兒對花生過敏。",
        "備份每天凌晨兩點執行。",
    ),
}


def all_sentences() -> list[str]:
    """Each alone, all of a language together, and a few texts that mix languages, numbers and code."""
    alone = [sentence for sentences in SENTENCES.values() for sentence in sentences]
    together = [" ".join(sentences * 4) for sentences in SENTENCES.values()]
    mixed = [" ".join(sentences[number % 3] for sentences in SENTENCES.values()) for number in range(3)]
    others = [
        "ok",
        "v2.14.0-rc.3",
        "SELECT wing, count(*) FROM drawers;",
        "½ cup sugar, 12,50 € / £10.80",
        "ＡＢＣ ｱｲｳ ①②",
    ]
    return [*alone, *together, *mixed, *others]
