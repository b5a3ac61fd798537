from openai_client import run_client_tests


def test_three_ranks_serve_the_openai_client(tmp_path):
    run_client_tests(tmp_path, ranks=3)
