"""One HTML file that needs nothing else: styles inside, no scripts, and a policy that lets it load nothing."""

import base64
import hashlib

from results.export_table import escape


def document(title: str, css: str, body: str) -> str:
    """
    Args:
        title: plain text.
        body: HTML, in which all text is escaped already.
    """
    style = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{css}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
