"""The public demo: one Gradio page over the same lab and the same pictures as the Streamlit app.

A note goes from the visitor's browser to the lab and back, only through memory. Nothing is trained, uploaded or kept.
"""
