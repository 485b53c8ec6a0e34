"""The option of the browser tests."""


def pytest_addoption(parser):
    parser.addoption("--screenshots", help="a folder to leave screenshots in")
