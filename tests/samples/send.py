import requests
api_key = 'sk_live_your_api_key_here'
headers = {
    'X-API-Key': api_key,
    'Content-Type': 'application/json'
}
payload = {
'instance': 'my-instance',
'recipient': '+966501234567',
'content': 'Hello from Python!'
}
response = requests.post(
'https://api.example.com/integration/v1/messages/send',
json=payload,
headers=headers
)
if response.status_code == 201:
    data = response.json()
    print(f"Message sent! ID: {data['data']['message_id']}")
else:
    print(f"Error: {response.json()['message']}")
