"""The files a report is saved as: JSON, JUnit, Markdown, and one HTML page. Each module has `write(report) -> str`."""
