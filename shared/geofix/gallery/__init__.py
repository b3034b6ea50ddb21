"""The gallery in Milvus: its layout, the loader and the exact search. Works alike on servers and on Milvus Lite directories."""
