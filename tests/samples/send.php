use Illuminate\Support\Facades\Http;
$apiKey = 'sk_live_your_api_key_here';
$response = Http::withHeaders([
'X-API-Key' => $apiKey,
'Content-Type' => 'application/json',
])->post('https://api.example.com/integration/v1/messages/send', [
'instance' => 'my-instance',
'recipient' => '+966501234567',
'content' => 'Hello from PHP!',
]);
if ($response->successful()) {
$data = $response->json();
echo "Message sent! ID: " . $data['data']['message_id'];
} else {
echo "Error: " . $response->json()['message'];
}
