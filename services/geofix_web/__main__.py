"""`python -m geofix_web`: serve until SIGTERM."""

from geofix_web.run import main

if __name__ == "__main__":
    main()
